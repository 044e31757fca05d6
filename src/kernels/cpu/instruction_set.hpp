// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace spillway::kernels::cpu {

/// What a hot loop is compiled for. All three give the same bits: nothing is contracted or reordered by the compiler,
/// sums have a fixed number of lanes (lanes.hpp), and where a formula wants fma it says so.
enum class InstructionSet { baseline, avx2, avx512 };

/// Whether this processor (and its operating system) has it.
[[nodiscard]] bool supported(InstructionSet set) noexcept;
/// The widest that this processor has; asked once.
[[nodiscard]] InstructionSet widest_instruction_set() noexcept;

namespace detail {

template <auto Body, typename... Arguments>
void with_baseline(const Arguments&... arguments) {
  Body(arguments...);
}

template <auto Body, typename... Arguments>
[[gnu::target("avx2,fma")]] void with_avx2(const Arguments&... arguments) {
  Body(arguments...);
}

template <auto Body, typename... Arguments>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")]] void with_avx512(
    const Arguments&... arguments) {
  Body(arguments...);
}

}  // namespace detail

/// Body(arguments...) compiled for `set`. Body is a function marked [[gnu::always_inline]], and so is what is hot
/// inside it: only what is inlined is compiled anew. Chosen by a branch and not by target_clones, whose resolvers run
/// before a thread sanitizer is ready.
template <auto Body, typename... Arguments>
void vectorised_for(InstructionSet set, const Arguments&... arguments) {
  switch (set) {
    case InstructionSet::avx512: return detail::with_avx512<Body>(arguments...);
    case InstructionSet::avx2: return detail::with_avx2<Body>(arguments...);
    case InstructionSet::baseline: return detail::with_baseline<Body>(arguments...);
  }
}

/// Body(arguments...) compiled for the widest vectors that this processor has.
template <auto Body, typename... Arguments>
void vectorised(const Arguments&... arguments) {
  vectorised_for<Body>(widest_instruction_set(), arguments...);
}

/// Calls `body`, a lambda marked always_inline, compiled for the widest vectors that this processor has.
template <typename Lambda>
void run_vectorised(const Lambda& body) {
  vectorised<[] [[gnu::always_inline]] (const Lambda& inlined) { inlined(); }>(body);
}

}  // namespace spillway::kernels::cpu
