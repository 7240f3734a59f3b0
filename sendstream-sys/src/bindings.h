/* What `make bindings` makes `bindings.rs` of. The build compiles this, too, and then compares. */
#define QUIC_API_ENABLE_PREVIEW_FEATURES
#include "msquic.h"
