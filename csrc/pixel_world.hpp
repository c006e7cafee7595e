// The pixel grid-worlds: Key-to-Door, Passive and Active Visual Match, one class for all of them.
// The rules in readable form are in fastmaze/reference/pixel_world.py.
// What never changes is in the tables of pixel_rooms.hpp; a step adds what can change.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "pixel_rooms.hpp"
#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class PixelWorld : PixelRooms {
  public:
    using Obs = uint8_t;
    static constexpr int64_t kContextBytes = 9;
    static constexpr bool kEndsEarly = false;

    enum Flag : uint8_t {
        kTaken = 1,      // the key was picked up
        kIndicated = 2,  // ... by the last step
        kEntered = 4,    // the door was entered with the key, or a coloured object touched
        kRight = 8,      // ... and it had the target colour
        kSeen = 16,      // the target colour was in view
    };

    struct State {
        int32_t due[kLanes];   // the apple is there from the frame after this one on; kNever if not
        int32_t apples;        // eaten
        uint8_t player;        // cell
        uint8_t object;        // explore room: cell of the key, or of the coloured wall
        uint8_t start;         // explore room: cell of the player
        uint8_t goal;          // reward room: cell of the door, or which object matches
        uint8_t reward_start;  // reward room: cell of the player
        uint8_t colours;       // which of the six orders of red, green and blue
        uint8_t flags;
        uint8_t zero;
    };

    explicit PixelWorld(const Options& options)
        : PixelRooms(static_cast<Kind>(options.integer("kind", 0, 3))),
          explore_(options.integer("explore_frames", 1, kLongestEpisode)),
          distractor_(options.integer("length", 1, kLongestEpisode)),
          length_(explore_ + distractor_ + options.integer("reward_frames", 1, kLongestEpisode)),
          respawn_(options.integer("respawn_every", 0, kLongestEpisode)),
          num_apples_(options.integer("num_apples", 0, kApples)),
          fixed_colours_(options.integer("fixed_colours", 0, 1) != 0),
          apple_reward_(options.number("apple_reward")),
          final_reward_(options.number("final_reward")) {
        if (int64_t{explore_} + distractor_ + options.integer("reward_frames", 1, kLongestEpisode) >
            kLongestEpisode) {
            Options::refuse("length: the three phases together are too long");
        }
        first_frame_[kExplore] = 0;
        first_frame_[kDistractor] = explore_;
        first_frame_[kReward] = explore_ + distractor_;
    }

    int32_t length() const { return length_; }
    int num_actions() const { return 4; }
    int obs_size() const { return 75; }

    bool is_context(const uint8_t* c) const {
        const uint32_t apples = apples_of(c);
        int count = 0;
        for (int i = 0; i < kApples; ++i) count += (apples >> i) & 1;
        return c[0] == 1 && objects_.holds(c[1]) && starts_.holds(c[2]) && goals_.holds(c[3]) &&
               reward_starts_.holds(c[4]) && c[5] < (is_match() ? 6 : 1) &&
               apples >> kApples == 0 && count == num_apples_;
    }

    void begin(const Env& env, const uint8_t* context, State& state) const {
        state = State{};
        for (int32_t& due : state.due) due = kNever;
        if (context != nullptr) {
            state.object = context[1];
            state.start = context[2];
            state.goal = context[3];
            state.reward_start = context[4];
            state.colours = context[5];
            for (int i = 0; i < kApples; ++i) {
                if ((apples_of(context) >> i) & 1) state.due[i] = -1;
            }
        } else {
            draw(env, state);
        }
        enter(phase_of(env.t), state);
    }

    Move step(const Env& env, int action, State& state) const {
        const Phase phase = phase_of(env.t - 1);
        const int32_t frame = env.t - first_frame_[phase];
        const int target = rooms_[phase].next[state.player][action];
        state.flags &= static_cast<uint8_t>(~kIndicated);
        double reward = 0.0;
        if (phase == kDistractor) {
            state.player = static_cast<uint8_t>(target);
            int32_t& due = state.due[apple_at_[target]];
            const bool there = frame - 1 > due;
            due = there ? (respawn_ ? frame + respawn_ : kNever) : due;
            state.apples += there;
            reward = there ? apple_reward_ : 0.0;
        } else if (phase == kExplore) {
            state.player = static_cast<uint8_t>(target);
            look_or_take(state);
        } else {
            reward = move_in_reward_room(target, state);
        }
        const Phase next = phase_of(env.t);
        if (next != phase) enter(next, state);
        return {static_cast<float>(reward), false};
    }

    void observe(const Env& env, const State& state, uint8_t* obs) const {
        const Phase phase = phase_of(env.t < length_ ? env.t : length_ - 1);
        const uint8_t(*plain)[32] = rooms_[phase].image[state.player];
        if (phase == kDistractor) {
            draw_apples(env.t - first_frame_[kDistractor], state, plain, obs);
            return;
        }
        for (int c = 0; c < 3; ++c) std::memcpy(obs + 25 * c, plain[c], 25);
        if (phase == kExplore) {
            if (is_match()) {
                paint(state, state.object, kPrimary[kOrders[state.colours][state.goal]], obs);
            } else if (!(state.flags & kTaken)) {
                paint(state, state.object, kKey, obs);
            } else if (state.flags & kIndicated) {
                paint(state, kIndicatorCell, kWhite, obs);
            }
        } else if (!is_match()) {
            paint(state, state.goal, kDoor, obs);  // over the player, too
        } else if (!(state.flags & kEntered)) {
            for (int i = 0; i < 3; ++i) {
                paint(state, kObjectCells[i], kPrimary[kOrders[state.colours][i]], obs);
            }
        }
    }

    Episode result(const Env&, const State& state) const {
        const bool paid = state.flags & (is_match() ? kRight : kEntered);
        return {state.apples * apple_reward_ + (paid ? final_reward_ : 0.0),
                paid && final_reward_ > 0, (state.flags & (is_match() ? kSeen : kTaken)) != 0};
    }

    bool possible(const Env& env, const State& state) const {
        const Phase phase = phase_of(env.t < length_ ? env.t : length_ - 1);
        const int32_t frame = env.t - first_frame_[kDistractor];
        int apples = 0;
        for (int i = 0; i < kLanes; ++i) {
            const int32_t due = state.due[i];
            if (i >= kApples && due != kNever) return false;
            // Eaten at frame 1 or later, and no later than now or the phase's end.
            const int32_t last = frame < distractor_ ? frame : distractor_;
            if (due != kNever && due != -1 && (due <= respawn_ || due - respawn_ > last)) return false;
            if (respawn_ == 0 && due != kNever && due != -1) return false;
            apples += due != kNever;
        }
        // The first touch of an object makes all of them vanish.
        for (const int cell : kObjectCells) {
            if (is_match() && phase == kReward && state.player == cell && !(state.flags & kEntered)) {
                return false;
            }
        }
        const uint8_t known = is_match() ? kEntered | kRight | kSeen : kTaken | kIndicated | kEntered;
        return (respawn_ == 0 ? apples <= num_apples_ : apples == num_apples_) &&
               state.apples >= 0 && state.apples <= (env.t - env.start) && state.zero == 0 &&
               state.player < kCells && rooms_[phase].inside[state.player] &&
               objects_.holds(state.object) && starts_.holds(state.start) &&
               goals_.holds(state.goal) && reward_starts_.holds(state.reward_start) &&
               state.colours < (is_match() ? 6 : 1) && (state.flags & ~known) == 0;
    }

  private:
    Phase phase_of(int32_t t) const {
        return static_cast<Phase>((t >= explore_) + (t >= explore_ + distractor_));
    }

    static uint32_t apples_of(const uint8_t* context) {
        return context[6] | uint32_t{context[7]} << 8 | uint32_t{context[8]} << 16;
    }

    void draw(const Env& env, State& state) const {
        Draws draws(env);
        const auto any = [&](uint32_t k, const Cells& cells) {
            return cells.cell[draws.below(k, static_cast<uint32_t>(cells.count))];
        };
        state.object = any(0, objects_);
        state.start = any(1, starts_);
        state.goal = any(2, goals_);
        state.reward_start = any(3, reward_starts_);
        // The first num_apples of a random order of the apple cells.
        uint8_t order[kApples];
        for (int i = 0; i < kApples; ++i) order[i] = static_cast<uint8_t>(i);
        for (int i = 0; i < num_apples_; ++i) {
            const uint32_t left = static_cast<uint32_t>(kApples - i);
            const int other = i + static_cast<int>(draws.below(8 + static_cast<uint32_t>(i), left));
            std::swap(order[i], order[other]);
            state.due[order[i]] = -1;
        }
        if (is_match()) {
            Env one = env;
            if (fixed_colours_) one.episode = 0;
            state.colours = static_cast<uint8_t>(Draws(one).below(4, 6));
        }
    }

    // The first frame of a phase.
    void enter(Phase phase, State& state) const {
        state.flags &= static_cast<uint8_t>(~kIndicated);
        state.player = phase == kExplore      ? state.start
                       : phase == kDistractor ? uint8_t{kDistractorStart}
                                              : state.reward_start;
        if (phase == kExplore) look(state);
    }

    void look(State& state) const {
        if (is_match() && crop_[state.player][state.object] < 25) state.flags |= kSeen;
    }

    void look_or_take(State& state) const {
        if (is_match()) {
            look(state);
        } else if (state.player == state.object && !(state.flags & kTaken)) {
            state.flags |= kTaken | kIndicated;
        }
    }

    double move_in_reward_room(int target, State& state) const {
        if (!is_match()) {
            // The door stays shut for who has not picked up the key; it pays once.
            if (target != state.goal || (state.flags & kTaken)) {
                state.player = static_cast<uint8_t>(target);
            }
            if (state.player != state.goal || (state.flags & kEntered)) return 0.0;
            state.flags |= kEntered;
            return final_reward_;
        }
        state.player = static_cast<uint8_t>(target);
        if (state.flags & kEntered) return 0.0;
        for (int i = 0; i < 3; ++i) {
            if (target != kObjectCells[i]) continue;
            state.flags |= kEntered;
            if (i != state.goal) return 0.0;
            state.flags |= kRight;
            return final_reward_;
        }
        return 0.0;
    }

    void paint(const State& state, int cell, const Colour& colour, uint8_t* obs) const {
        const int at = crop_[state.player][cell];
        if (at >= 25) return;
        for (int c = 0; c < 3; ++c) obs[25 * c + at] = colour[static_cast<size_t>(c)];
    }

    // The orchard: the plain picture, with the colour of apples where there are some. Whole words
    // instead of bytes: a vector load would have to wait for the byte stores before it.
    void draw_apples(int32_t frame, const State& state, const uint8_t (*plain)[32],
                     uint8_t* obs) const {
        static_assert(std::endian::native == std::endian::little);
        uint32_t there = 0;
        for (int i = 0; i < kLanes; ++i) {
            there |= kBit[i] & (0u - static_cast<uint32_t>(frame > state.due[i]));
        }
        const int top = state.player / kColumns, column = state.player % kColumns;
        uint64_t row[5];  // five bytes each, 0xFF for an apple
        for (int r = 0; r < 5; ++r) {
            const AppleRow& apples = apple_rows_[top + r];  // the first two lie outside
            row[r] = spread_[apples.kind][column][(there >> apples.first) & apples.bits];
        }
        row[2] &= ~(uint64_t{0xFF} << 16);  // the player stands in front
        const uint64_t word[3] = {row[0] | row[1] << 40, row[1] >> 24 | row[2] << 16 | row[3] << 56,
                                  row[3] >> 8 | row[4] << 32};
        const uint8_t last = static_cast<uint8_t>(row[4] >> 32);
        for (int c = 0; c < 3; ++c) {
            const uint8_t change = kGrey[static_cast<size_t>(c)] ^ kApple[static_cast<size_t>(c)];
            for (int w = 0; w < 3; ++w) {
                uint64_t pixels;
                std::memcpy(&pixels, plain[c] + 8 * w, 8);
                pixels ^= word[w] & (change * uint64_t{0x0101010101010101});
                std::memcpy(obs + 25 * c + 8 * w, &pixels, 8);
            }
            obs[25 * c + 24] = static_cast<uint8_t>(plain[c][24] ^ (last & change));
        }
    }

    // 1 << i, which SSE2 cannot compute for a vector of i.
    static constexpr uint32_t kBit[kLanes] = {
        1u << 0,  1u << 1,  1u << 2,  1u << 3,  1u << 4,  1u << 5,  1u << 6,  1u << 7,
        1u << 8,  1u << 9,  1u << 10, 1u << 11, 1u << 12, 1u << 13, 1u << 14, 1u << 15,
        1u << 16, 1u << 17, 1u << 18, 1u << 19, 1u << 20, 1u << 21, 1u << 22, 1u << 23};

    int32_t explore_, distractor_, length_, respawn_, num_apples_;
    bool fixed_colours_;
    double apple_reward_, final_reward_;
    int32_t first_frame_[3];
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
