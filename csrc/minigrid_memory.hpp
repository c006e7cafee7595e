// MiniGrid's Memory (Chevalier-Boisvert et al. 2018): go to the object that lay in the start room.
// The rules in readable form are in fastmaze/reference/minigrid_memory.py.
//
// No view is computed while it runs: a table holds the view from each cell that the agent can
// reach, in each direction and for each end of the hallway, and where in it the three objects are.
#pragma once

#include <cstdint>
#include <cstring>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class MiniGridMemory {
  public:
    using Obs = uint8_t;
    static constexpr int64_t kContextBytes = 5;
    static constexpr bool kEndsEarly = true;
    static constexpr int kView = 7, kBytes = kView * kView * 3, kMaxSize = 101;

    struct State {
        uint8_t x, y;
        uint8_t direction;    // 0 east, 1 south, 2 west, 3 north
        uint8_t hallway_end;  // column
        uint8_t cue;          // in the start room: 0 key, 1 ball
        uint8_t upper;        // at the upper end; the lower one has the other
        uint8_t cue_seen;
    };

    explicit MiniGridMemory(const Options& options)
        : size_(options.integer("size", 7, kMaxSize)),
          length_(options.integer("episode_length", 1, kLongestEpisode)) {
        if (size_ % 2 == 0) Options::refuse("size: expected an odd integer");
        last_end_ = size_ - 3;
        first_end_ = options.integer("random_length", 0, 1) != 0 ? 4 : last_end_;
        build();
    }
    MiniGridMemory(const MiniGridMemory&) = delete;
    MiniGridMemory& operator=(const MiniGridMemory&) = delete;
    ~MiniGridMemory() { delete[] views_; }

    int32_t length() const { return length_; }
    int num_actions() const { return 7; }
    int obs_size() const { return kBytes; }

    bool is_context(const uint8_t* c) const {
        return c[0] == 1 && is_end(c[1]) && c[2] >= 1 && c[2] <= c[1] && c[3] <= 1 && c[4] <= 1;
    }

    void begin(const Env& env, const uint8_t* context, State& state) const {
        state.y = static_cast<uint8_t>(middle());
        state.direction = 0;
        if (context != nullptr) {
            state.hallway_end = context[1];
            state.x = context[2];
            state.cue = context[3];
            state.upper = context[4];
        } else {
            Draws draws(env);
            const auto ends = static_cast<uint32_t>(last_end_ - first_end_ + 1);
            state.hallway_end =
                static_cast<uint8_t>(static_cast<uint32_t>(first_end_) + draws.below(0, ends));
            state.x = static_cast<uint8_t>(1 + draws.below(1, state.hallway_end));
            state.cue = static_cast<uint8_t>(draws.below(2, 2));
            state.upper = static_cast<uint8_t>(draws.below(3, 2));
        }
        state.cue_seen = view(state).object[kCue].seen;
    }

    Move step(const Env& env, int action, State& state) const {
        const int forward = (action == 2) & view(state).free_ahead;
        const int direction = state.direction;
        state.x = static_cast<uint8_t>(state.x + forward * kAheadX[direction]);
        state.y = static_cast<uint8_t>(state.y + forward * kAheadY[direction]);
        state.direction = static_cast<uint8_t>((direction + (action == 1) + 3 * (action == 0)) & 3);
        state.cue_seen |= view(state).object[kCue].seen;
        if (!at_end(state)) [[likely]] return {0.0f, false};
        return {static_cast<float>(paid(env, state)), true};
    }

    void observe(const Env&, const State& state, uint8_t* obs) const {
        const View& seen = view(state);
        std::memcpy(obs, seen.image, kBytes);
        // The table shows keys; a ball has the next number. Objects out of view add nothing.
        const uint8_t balls[3] = {state.cue, state.upper, static_cast<uint8_t>(state.upper ^ 1)};
        for (int i = 0; i < 3; ++i) {
            const uint8_t at = seen.object[i].at;
            obs[at] = static_cast<uint8_t>(obs[at] + (balls[i] & seen.object[i].seen));
        }
    }

    Episode result(const Env& env, const State& state) const {
        return {paid(env, state), is_right(state), state.cue_seen == 1};
    }

    bool possible(const Env& env, const State& state) const {
        if (!is_end(state.hallway_end) || state.direction > 3 || state.cue > 1 ||
            state.upper > 1 || state.cue_seen > 1 || state.x > state.hallway_end + 1 ||
            state.y < middle() - 1 || state.y > middle() + 1) {
            return false;
        }
        const View& now = view(state);
        if (!now.inside) return false;
        if (at_end(state) ? !env.over : env.over && env.t < length_) return false;
        // What is in view was seen; at the first step, nothing else was.
        const uint8_t sees = now.object[kCue].seen;
        if (sees > state.cue_seen) return false;
        return env.t > env.start || (state.cue_seen == sees && state.direction == 0 &&
                                     state.y == middle() && state.x <= state.hallway_end);
    }

  private:
    enum { kCue, kUpper, kLower };
    static constexpr int8_t kAheadX[4] = {1, 0, -1, 0}, kAheadY[4] = {0, 1, 0, -1};
    static constexpr uint8_t kFloor = 1, kWall = 2, kKey = 5, kGrey = 5, kGreen = 1;

    struct alignas(32) View {
        uint8_t image[kBytes];  // with keys for all objects
        uint8_t free_ahead;     // 1 if the agent can go forward
        uint8_t inside;         // 1 if the agent can be here
        struct {
            uint8_t at;    // where the image tells the object's type
            uint8_t seen;  // 1 if it is in view
        } object[3];
    };

    bool is_end(int column) const { return column >= first_end_ && column <= last_end_; }
    int middle() const { return size_ / 2; }

    bool at_end(const State& state) const {
        return (state.x == state.hallway_end + 1) & (state.y != middle());
    }
    bool is_right(const State& state) const {
        return at_end(state) && (state.y < middle()) == (state.upper == state.cue);
    }
    double paid(const Env& env, const State& state) const {
        return is_right(state) ? 1.0 - 0.9 * (static_cast<double>(env.t) / length_) : 0.0;
    }

    // The agent's cells lie in three rows.
    size_t place(int end, int x, int y, int direction) const {
        const int row = (end - first_end_) * 3 + y - (middle() - 1);
        return static_cast<size_t>((row * size_ + x) * 4 + direction);
    }
    const View& view(const State& s) const {
        return views_[place(s.hallway_end, s.x, s.y, s.direction)];
    }

    void build() {
        views_ = new View[place(last_end_ + 1, 0, middle() - 1, 0)]();
        for (int end = first_end_; end <= last_end_; ++end) {
            draw_map(end);
            for (int y = middle() - 1; y <= middle() + 1; ++y) {
                for (int x = 1; x <= end + 1; ++x) {
                    if (map_[y][x] != kFloor) continue;
                    for (int direction = 0; direction < 4; ++direction) {
                        look(end, x, y, direction, views_[place(end, x, y, direction)]);
                    }
                }
            }
        }
    }

    // Types of all cells, with keys for all objects.
    void draw_map(int end) {
        for (int y = 0; y < size_; ++y) {
            for (int x = 0; x < size_; ++x) {
                const int beside = y < middle() ? middle() - y : y - middle();
                const bool border = x == 0 || y == 0 || x == size_ - 1 || y == size_ - 1;
                const bool room = (x <= 4 && beside == 2) || (x == 4 && beside == 1);
                const bool hallway = x > 4 && x < end && beside == 1;
                const bool fork = (x == end && beside > 0) || x == end + 2;
                map_[y][x] = border || room || hallway || fork ? kWall : kFloor;
            }
        }
        for (int i = 0; i < 3; ++i) {
            map_[object_y(i)][object_x(i, end)] = kKey;
        }
    }

    int object_x(int i, int end) const { return i == kCue ? 1 : end + 1; }
    int object_y(int i) const { return middle() + (i == kCue ? -1 : i == kUpper ? -2 : 2); }

    void look(int end, int x, int y, int direction, View& seen) const {
        const int ahead_x = kAheadX[direction], ahead_y = kAheadY[direction];
        const int right_x = kAheadX[(direction + 1) % 4], right_y = kAheadY[(direction + 1) % 4];
        const auto type_at = [&](int to_x, int to_y) {
            const bool outside = to_x < 0 || to_y < 0 || to_x >= size_ || to_y >= size_;
            return outside ? kWall : map_[to_y][to_x];
        };
        uint8_t type[kView][kView];  // by column, then row; the agent in the middle of row 6
        bool lit[kView][kView] = {};
        for (int column = 0; column < kView; ++column) {
            for (int row = 0; row < kView; ++row) {
                const int ahead = kView - 1 - row, right = column - kView / 2;
                type[column][row] = type_at(x + ahead * ahead_x + right * right_x,
                                            y + ahead * ahead_y + right * right_y);
            }
        }
        // Light goes from row to row, in each first to the right and then to the left.
        lit[kView / 2][kView - 1] = true;
        for (int row = kView - 1; row >= 0; --row) {
            const auto pass_on = [&](int column, int side) {
                if (!lit[column][row] || type[column][row] == kWall) return;
                lit[column + side][row] = true;
                if (row > 0) lit[column + side][row - 1] = lit[column][row - 1] = true;
            };
            for (int column = 0; column < kView - 1; ++column) pass_on(column, 1);
            for (int column = kView - 1; column > 0; --column) pass_on(column, -1);
        }
        for (int column = 0; column < kView; ++column) {
            for (int row = 0; row < kView; ++row) {
                uint8_t* pixel = seen.image + (column * kView + row) * 3;
                const uint8_t found = lit[column][row] ? type[column][row] : uint8_t{0};
                pixel[0] = found;
                pixel[1] = found == kWall ? kGrey : found == kKey ? kGreen : uint8_t{0};
                pixel[2] = 0;
            }
        }
        seen.free_ahead = type_at(x + ahead_x, y + ahead_y) == kFloor;
        seen.inside = 1;
        for (int i = 0; i < 3; ++i) {
            const int dx = object_x(i, end) - x, dy = object_y(i) - y;
            const int row = kView - 1 - (ahead_x * dx + ahead_y * dy);
            const int column = kView / 2 + right_x * dx + right_y * dy;
            const bool near = row >= 0 && row < kView && column >= 0 && column < kView;
            seen.object[i] = {0, 0};
            if (near && lit[column][row]) {
                seen.object[i] = {static_cast<uint8_t>((column * kView + row) * 3), 1};
            }
        }
    }

    int32_t size_, length_;
    int first_end_ = 0, last_end_ = 0;
    uint8_t map_[kMaxSize][kMaxSize];  // types of cells, while the table is made
    View* views_ = nullptr;
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
