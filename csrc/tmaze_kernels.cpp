// The hot loops. Compiled once per instruction set with FASTMAZE_ISA = baseline, avx2 or avx512;
// tests/native/test_vectorised.py reads the compiler's report on each and fails if a loop is scalar.

#include "tmaze_kernels.hpp"
#include "philox.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {
namespace {

template <View kView, bool kTime, Rule kRule>
int32_t step(const TMazeOptions& shared_options, const TMazeLanes& lanes,
             const uint8_t* __restrict actions, float* __restrict obs, float* __restrict reward,
             uint8_t* __restrict terminated, int64_t n) {
    // Local copies tell the compiler that nothing written below changes them.
    const TMazeOptions options = shared_options;
    int32_t* __restrict x = lanes.x;
    int32_t* __restrict t = lanes.t;
    int32_t* __restrict flags = lanes.flags;
    int32_t* __restrict penalties = lanes.penalties;
    int32_t* __restrict distractions = lanes.distractions;
    int32_t last = 0;
    for (int64_t i = 0; i < n; ++i) {
        TMazeLane lane{x[i], t[i], flags[i], penalties[i], 0};
        if constexpr (kRule == Rule::kPaceAndDistract) lane.distractions = distractions[i];
        reward[i] = advance<kRule>(options, actions[i], lane);
        terminated[i] = lane.t >= options.episode_length;
        fastmaze::observe<kView, kTime>(options, lane, obs + i * obs_dim<kView, kTime>);
        x[i] = lane.x;
        t[i] = lane.t;
        flags[i] = lane.flags;
        penalties[i] = lane.penalties;
        if constexpr (kRule == Rule::kPaceAndDistract) distractions[i] = lane.distractions;
        last = max_of(last, lane.t);
    }
    return last;
}

template <View kView, bool kTime>
void observe_all(const TMazeOptions& shared_options, const TMazeLanes& lanes,
                 float* __restrict obs, int64_t n) {
    const TMazeOptions options = shared_options;
    for (int64_t i = 0; i < n; ++i) {
        const TMazeLane lane{lanes.x[i], lanes.t[i], lanes.flags[i], 0, 0};
        fastmaze::observe<kView, kTime>(options, lane, obs + i * obs_dim<kView, kTime>);
    }
}

template <class Action>
bool narrow(const Action* __restrict actions, uint8_t* __restrict narrowed, int64_t n) {
    Action seen = 0;
    for (int64_t i = 0; i < n; ++i) {
        seen |= actions[i];
        narrowed[i] = static_cast<uint8_t>(actions[i]);
    }
    return (seen & ~Action{3}) == 0;
}

bool check(const uint8_t* __restrict actions, int64_t n) {
    uint8_t seen = 0;
    for (int64_t i = 0; i < n; ++i) seen |= actions[i];
    return seen <= 3;
}

void draw_goals(const uint64_t* __restrict key, const uint32_t* __restrict index,
                const uint32_t* __restrict episode, int32_t* __restrict goal, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        const PhiloxCounter words =
            philox4x32({{index[i], episode[i], 0, 0}}, static_cast<uint32_t>(key[i]),
                       static_cast<uint32_t>(key[i] >> 32));
        goal[i] = static_cast<int32_t>(words.word[0] & 1) * 2 - 1;
    }
}

template <View kView, bool kTime>
void fill_rules(Kernels::Step (&row)[kNumRules]) {
    row[static_cast<int>(Rule::kPace)] = step<kView, kTime, Rule::kPace>;
    row[static_cast<int>(Rule::kPaceAndDistract)] = step<kView, kTime, Rule::kPaceAndDistract>;
    row[static_cast<int>(Rule::kAction)] = step<kView, kTime, Rule::kAction>;
}

template <View kView>
void fill_view(Kernels& table) {
    const int view = static_cast<int>(kView);
    fill_rules<kView, false>(table.step[view][0]);
    fill_rules<kView, true>(table.step[view][1]);
    table.observe[view][0] = observe_all<kView, false>;
    table.observe[view][1] = observe_all<kView, true>;
}

Kernels make_table() {
    Kernels table{};
    table.isa = fastmaze_isa_name(FASTMAZE_ISA);
    fill_view<View::kAmbiguous>(table);
    fill_view<View::kPosition>(table);
    fill_view<View::kGoal>(table);
    table.narrow_int64 = narrow<int64_t>;
    table.narrow_int32 = narrow<int32_t>;
    table.check_uint8 = check;
    table.draw_goals = draw_goals;
    return table;
}

}  // namespace

const Kernels& kernels() {
    static const Kernels table = make_table();
    return table;
}

}  // namespace fastmaze::FASTMAZE_NAMESPACE
