#pragma once
// KLENS_INSTRUCTION_SET names the inline namespace that all of klens lives in, after the instruction set that the compiler's
// flags allow: translation units with different flags do not share definitions, so that none runs code for another processor.

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#define KLENS_MATH_ _fast_math
#define KLENS_FAST_MATH_
#if !defined(KLENS_COMPILED)
#error "klens needs infinities and NaNs: compile without -ffast-math and -ffinite-math-only, or link klens::compiled"
#endif
#else
#define KLENS_MATH_
#endif

// klens::compiled: loops over logits and weights, and the scan, come from a library. Its target sets this macro; users do not.
#if defined(KLENS_COMPILED)
#define KLENS_FORM_ _compiled
#else
#define KLENS_FORM_
#endif

// The widest set of vectors: what xsimd looks for, too.
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI2__)
#define KLENS_VECTORS_ on_avx512vnni
#elif defined(__AVX512VBMI__)
#define KLENS_VECTORS_ on_avx512vbmi
#elif defined(__AVX512BW__)
#define KLENS_VECTORS_ on_avx512bw
#elif defined(__AVX512DQ__)
#define KLENS_VECTORS_ on_avx512dq
#elif defined(__AVX512F__)
#define KLENS_VECTORS_ on_avx512f
#elif defined(__AVX2__)
#define KLENS_VECTORS_ on_avx2
#elif defined(__AVX__)
#define KLENS_VECTORS_ on_avx
#elif defined(__SSE4_2__)
#define KLENS_VECTORS_ on_sse4_2
#elif defined(__SSE4_1__)
#define KLENS_VECTORS_ on_sse4_1
#elif defined(__SSSE3__)
#define KLENS_VECTORS_ on_ssse3
#elif defined(__SSE3__)
#define KLENS_VECTORS_ on_sse3
#elif defined(__SSE2__) || defined(_M_X64)
#define KLENS_VECTORS_ on_sse2
#elif defined(__ARM_FEATURE_SVE)
#define KLENS_VECTORS_ on_sve
#elif defined(__ARM_NEON)
#define KLENS_VECTORS_ on_neon
#else
#define KLENS_VECTORS_ on_scalars
#endif

// Fused multiply-adds round once, and halves are converted by the processor or by hand.
#if defined(__FMA__)
#define KLENS_FMA_ _fma
#else
#define KLENS_FMA_
#endif
#if defined(__F16C__)
#define KLENS_HALF_ _f16c
#else
#define KLENS_HALF_
#endif

// klens::compiled also holds the scan of rank_layers, compiled for plain x86-64. Units that are compiled for that, too, live in
// the same namespace and share its types: they call it instead of compiling it.
#if defined(KLENS_COMPILED) && defined(__x86_64__) && !defined(__SSE3__) && !defined(__FMA__) && !defined(__F16C__) && \
    !defined(KLENS_FAST_MATH_) && !defined(_GLIBCXX_DEBUG)
#define KLENS_COMPILED_SCAN
#define KLENS_SCAN_INLINE
#else
#define KLENS_SCAN_INLINE inline
#endif

#define KLENS_JOIN_AS_NAMED_(a, b, c, d, e) a##b##c##d##e
#define KLENS_JOIN_(a, b, c, d, e) KLENS_JOIN_AS_NAMED_(a, b, c, d, e)
#define KLENS_INSTRUCTION_SET KLENS_JOIN_(KLENS_VECTORS_, KLENS_FMA_, KLENS_HALF_, KLENS_FORM_, KLENS_MATH_)
