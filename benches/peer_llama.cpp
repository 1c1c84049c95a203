// Decode speed of llama.cpp with a long private context for every sequence, which llama-batched-bench cannot reach in reasonable time: it reads
// the prompt anew for every batch size. Here one sequence reads it once, its state is kept in a file, and every sequence gets a copy of its own.
//
//   peer_llama MODEL.gguf CONTEXT BATCH,... TOKENS THREADS STATE_FILE
//
// prints a line {"batch", "context_tokens", "new_tokens", "step_ms", "decode_tokens_per_second", "prefill_seconds"} for each batch size (prefill null when the state was in the file).
// Built by peers.py against a build of llama.cpp.

#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using Clock = std::chrono::steady_clock;

static double seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

static void fail(const char * what) {
    std::fprintf(stderr, "peer_llama: %s\n", what);
    std::exit(2);
}

static void add(llama_batch & batch, llama_token token, int position, int sequence, bool wanted) {
    const int i = batch.n_tokens++;
    batch.token[i] = token;
    batch.pos[i] = position;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = sequence;
    batch.logits[i] = wanted;
}

int main(int argc, char ** argv) {
    if (argc != 7) {
        fail("MODEL CONTEXT BATCH,... TOKENS THREADS STATE_FILE");
    }
    const int context = std::atoi(argv[2]), tokens = std::atoi(argv[4]), threads = std::atoi(argv[5]);
    std::vector<int> batches;
    for (const char * at = argv[3]; *at; at += *at == ',') {
        char * end = nullptr;
        batches.push_back((int) std::strtol(at, &end, 10));
        if (end == at || batches.back() < 1 || (*end && *end != ',')) {
            fail("the batch sizes are numbers with commas between them");
        }
        at = end;
    }
    // a state file fits only contexts of the same number of sequences
    const int most = *std::max_element(batches.begin(), batches.end());
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr); }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        fail("the model cannot be loaded");
    }
    llama_context_params params = llama_context_default_params();
    // room for each sequence, in whole blocks of 256
    params.n_ctx = most * ((context + tokens + 8 + 255) / 256 * 256);
    params.n_batch = 2048;
    params.n_ubatch = 512;
    params.n_seq_max = most;
    params.n_threads = params.n_threads_batch = threads;
    params.kv_unified = false;
    params.no_perf = true;
    llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) {
        fail("no context");
    }
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_batch batch = llama_batch_init(params.n_batch, 0, 1);
    const auto token = [&](int i) { return (llama_token) ((i * 7919ll + 13) % vocab); };

    double prefill = -1.0;
    std::vector<llama_token> kept(context);
    std::FILE * there = std::fopen(argv[6], "rb");
    if (there) {
        std::fclose(there);
    } else {
        const auto start = Clock::now();
        for (int at = 0; at < context; at += params.n_batch) {
            batch.n_tokens = 0;
            for (int i = at; i < std::min(context, at + (int) params.n_batch); ++i) {
                add(batch, token(i), i, 0, i + 1 == context);
            }
            if (llama_decode(ctx, batch) != 0) {
                fail("the prompt cannot be read");
            }
        }
        llama_synchronize(ctx);
        prefill = seconds(start);
        if (llama_state_seq_save_file(ctx, argv[6], 0, kept.data(), kept.size()) == 0) {
            fail("the state cannot be written");
        }
    }
    for (const int size : batches) {
        llama_memory_clear(llama_get_memory(ctx), true);
        for (int s = 0; s < size; ++s) {
            size_t held = 0;
            if (!llama_state_seq_load_file(ctx, argv[6], s, kept.data(), kept.size(), &held) || (int) held != context) {
                fail("the state file is of another model, length or number of sequences; remove it");
            }
        }
        std::vector<double> steps;
        for (int i = 0; i < tokens; ++i) {
            batch.n_tokens = 0;
            for (int s = 0; s < size; ++s) {
                add(batch, token(context + i * size + s), context + i, s, true);
            }
            const auto start = Clock::now();
            if (llama_decode(ctx, batch) != 0) {
                fail("a step failed");
            }
            llama_synchronize(ctx);
            steps.push_back(seconds(start));
        }
        // the first step pays for what is set up once
        steps.erase(steps.begin());
        std::sort(steps.begin(), steps.end());
        const double step = steps[steps.size() / 2];
        std::printf("{\"batch\": %d, \"context_tokens\": %d, \"new_tokens\": %d, \"step_ms\": %.4f, \"decode_tokens_per_second\": %.4f, \"prefill_seconds\": ",
            size, context, tokens, step * 1e3, size / step);
        prefill < 0 ? std::printf("null}\n") : std::printf("%.3f}\n", prefill);
        std::fflush(stdout);
    }
    llama_batch_free(batch);
    llama_free(ctx);
    llama_model_free(model);
}
