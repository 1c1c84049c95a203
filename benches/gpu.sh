#!/usr/bin/env bash
# Tests and measures `--device cuda` on a machine with an NVIDIA card and no Rust: correctness first, then speed; under 8 minutes.
#
#     benches/gpu.sh pack                 # where Rust is: makes the two programs that are needed, in target/gpu
#     benches/gpu.sh run [cuda:N]         # on the card's machine, in the repository with target/gpu
#     benches/gpu.sh run emulated         # every line of it on the emulated device, with small shapes: minutes, and no figure of it counts
#     benches/gpu.sh table                # the Markdown table of what the last run left
#
# What it finds goes to $OUT (default target/gpu/out), a file a part. Each part has its own limit, and the next begins whatever came of it.
# transformers is measured beside it where Python has it with torch; compute-sanitizer and ncu run where they are installed.
set -uo pipefail
cd "$(dirname "$0")/.."
here=target/gpu
out=${OUT:-$here/out}
what=${1:-run}
device=${2:-cuda:0}

pack() {
    set -e
    cargo build --release --locked
    tests=$(cargo test --release --locked -p tts-model --lib --no-run --message-format=json |
        python3 -c 'import json,sys
for line in sys.stdin:
    found = json.loads(line)
    if found.get("executable") and found["target"]["name"] == "tts_model": print(found["executable"])')
    mkdir -p $here
    cp target/release/tts "$tests" $here/
    mv "$here/$(basename "$tests")" $here/kernels
    strip $here/tts $here/kernels
    ls -l $here
}

# part SECONDS FILE COMMAND...: runs a part under its limit and says how it ended
failed=0
part() {
    local limit=$1 file=$2 began=$SECONDS code=0
    shift 2
    echo "== $file: $*"
    timeout -k 5 "$limit" "$@" > >(tee "$out/$file") 2> >(tee "$out/$file.err" >&2) || code=$?
    if [ $code != 0 ]; then failed=1; echo "== $file ENDED WITH $code"; fi
    echo "$file $code $((SECONDS - began))" >> "$out/parts.txt"
}

correct() {
    part 30 doctor.txt $here/tts doctor --device "$device"
    part 120 kernels.txt $here/kernels --test-threads 4 gpu::tests
    # the whole program: the same run twice, with other slots, and gone on with
    local solve=($here/tts solve "Find the greatest common divisor of 437 and 161." --device "$device" --strategy majority --traces "$traces" --json)
    part 60 solve.json "${solve[@]}"
    part 60 solve-narrow.json "${solve[@]}" --slots 3
    python3 - "$out" <<'P'
import json, sys
def digest(name):
    try: return json.loads(open(f"{sys.argv[1]}/{name}").read().splitlines()[-1])["digest"]
    except Exception as e: return repr(e)
one, two = digest("solve.json"), digest("solve-narrow.json")
print("== the same traces at other slots:", "YES" if one == two and len(one) > 20 else f"NO: {one} {two}")
P
}

watched() {
    if command -v compute-sanitizer > /dev/null; then
        for tool in memcheck racecheck; do
            part 60 $tool.txt compute-sanitizer --tool $tool $here/kernels --test-threads 1 gpu::tests::rows
        done
    else
        echo "== compute-sanitizer is not installed" | tee "$out/memcheck.txt"
    fi
}

speed() {
    local bench=($here/tts bench --device "$device" --repeat 1 --fitting --json) used=$!
    # memory in use, each second; the largest is the peak
    if [ "$device" != emulated ] && command -v nvidia-smi > /dev/null; then
        (while sleep 1; do nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits; done) > "$out/memory.txt" 2> /dev/null &
        used=$!
    fi
    if [ "$device" = emulated ]; then
        part 300 seven.json "${bench[@]}" --shape falcon-h1-7b --layers 1 --batch 1 --context 0,64 --prompt 4 --tokens 2
        part 300 seven-q4.json "${bench[@]}" --shape falcon-h1-7b --layers 1 --dtype q4_0 --batch 1 --prompt 4 --tokens 2
        part 120 half.json "${bench[@]}" --shape falcon-h1-0.5b --layers 1 --batch 1 --prompt 4 --tokens 2
        part 120 tiny.json "${bench[@]}" --shape tiny-90m --layers 2 --batch 2 --prompt 4 --tokens 2
        part 120 profile.txt env TTS_PROFILE_LAYERS=1 TTS_PROFILE_TRACES=2 $here/kernels --ignored --nocapture profile_of_a_step
    else
        part 150 seven.json "${bench[@]}" --shape falcon-h1-7b --batch 1,64,128,256,512 --context 0,2048,8192,16384,32000 --prompt 512 --tokens 16
        part 40 seven-q4.json "${bench[@]}" --shape falcon-h1-7b --dtype q4_0 --batch 1,64,256 --context 2048 --prompt 512 --tokens 16
        part 30 half.json "${bench[@]}" --shape falcon-h1-0.5b --batch 1,64,256,512 --context 2048 --prompt 512 --tokens 32
        part 20 tiny.json "${bench[@]}" --shape tiny-90m --batch 1,64,256,512 --context 512 --prompt 512 --tokens 32
        part 60 profile.txt env TTS_PROFILE_SHAPE=falcon-h1-7b TTS_PROFILE_TRACES=64 TTS_PROFILE_CONTEXT=8192 $here/kernels --ignored --nocapture profile_of_a_step
    fi
    [ -n "${used:-}" ] && kill "$used" 2> /dev/null
}

peer() {
    if python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2> /dev/null; then
        part 90 transformers.json python3 benches/peer_transformers.py --shape falcon-h1-7b --device cuda --batch 1,64 --prompt 512 --tokens 8
        part 30 products.txt python3 benches/gpu_products.py
    else
        echo "== no torch and transformers with CUDA: no peer" | tee "$out/transformers.json"
    fi
    if command -v ncu > /dev/null; then
        part 60 ncu.txt env TTS_PROFILE_SHAPE=falcon-h1-7b TTS_PROFILE_LAYERS=2 TTS_PROFILE_TRACES=64 ncu --clock-control none \
            --launch-skip 400 --launch-count 24 --section SpeedOfLight --section Occupancy $here/kernels --ignored --nocapture profile_of_a_step
    fi
}

case $what in
    pack) pack ;;
    table) python3 benches/gpu_table.py "$out" ;;
    run)
        mkdir -p "$out" && rm -f "$out"/*
        export RUST_BACKTRACE=1 TTS_TEST_FIXTURES=$PWD/tests/fixtures
        if [ "$device" = emulated ]; then traces=4; else traces=64; export TTS_TEST_DEVICE=$device; fi
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | tee "$out/card.txt"
        # the run-time compiler comes with PyTorch and with the toolkit
        if [ -z "${TTS_NVRTC:-}" ] && [ "$device" != emulated ]; then
            TTS_NVRTC=$(find / -name 'libnvrtc.so*' -not -path '/proc/*' 2> /dev/null | sort -V | tail -1)
            if [ -n "$TTS_NVRTC" ]; then export TTS_NVRTC; else unset TTS_NVRTC; fi
            echo "NVRTC: ${TTS_NVRTC:-where the system looks}"
        fi
        correct
        speed
        watched
        peer
        python3 benches/gpu_table.py "$out" | tee "$out/table.md"
        echo "== $SECONDS s, $([ $failed = 0 ] && echo every part ended well || echo SOME PART FAILED)"
        exit $failed
        ;;
    *) sed -n '2,12p' "$0"; exit 2 ;;
esac
