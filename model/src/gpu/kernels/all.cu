// Every kernel of a model. What a model does not have is not compiled.
#include "device.h"
#include "rows.cu"
#include "product.cu"
#include "mixer.cu"
#include "attention.cu"
#include "experts.cu"
#include "sample.cu"
#ifdef EMULATED
extern "C" __attribute__((visibility("default"))) const char* emulated_error() { return emu::machine().error; }
extern "C" __attribute__((visibility("default"))) int emulate(const char* name, const unsigned* grid, const unsigned* block, void** args, int order) {
    emu::machine().order = order;
    emu::machine().error[0] = 0;
    EMULATE(norm_rows) EMULATE(gate_rows) EMULATE(pad_rows)
    EMULATE(product_bf16) EMULATE(product_f16) EMULATE(product_codes8) EMULATE(product_codes4) EMULATE(product_fp4) EMULATE(product_f32) EMULATE(embed)
#ifdef TAPS
    EMULATE(conv)
#endif
#ifdef SHORT_TAPS
    EMULATE(short_conv)
#endif
#ifdef P
    EMULATE(state_update)
#endif
#ifdef HD
    EMULATE(enter) EMULATE(attend) EMULATE(attend_merge)
#endif
    EMULATE(route) EMULATE(group_rows) EMULATE(gather_rows) EMULATE(combine)
    EMULATE(edit_rows) EMULATE(draw_rows)
    return 1;
}
#endif
