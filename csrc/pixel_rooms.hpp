// The rooms of the pixel grid-worlds: their patterns and colours, and tables made from them once.
//
// Nothing is searched for while a world runs: the tables say where each action leads from each cell
// of each room, how each room looks from there, and how the apples of a row look from a column.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "plain_task.hpp"

namespace fastmaze::FASTMAZE_NAMESPACE {

class PixelRooms {
  public:
    static constexpr int kRows = 7, kColumns = 11, kCells = kRows * kColumns;
    static constexpr int kApples = 22;     // cells that may hold an apple
    static constexpr int kLanes = 24;      // the same, in whole vectors
    static constexpr int32_t kNever = 0x7FFFFFFF;

    enum Kind { kKeyToDoor, kLargeKeyToDoor, kPassiveMatch, kActiveMatch };

  protected:
    enum Phase { kExplore, kDistractor, kReward };
    using Colour = std::array<uint8_t, 3>;
    using Grid = const char*;

    // Some cells, for the draws and for the checks of what comes from outside.
    struct Cells {
        uint8_t cell[kCells];
        int count = 0;
        void add(int value) { cell[count++] = static_cast<uint8_t>(value); }
        bool holds(int value) const {
            for (int i = 0; i < count; ++i) {
                if (cell[i] == value) return true;
            }
            return false;
        }
    };

    struct Room {
        uint8_t next[kCells][4];       // where an action leads; doors count as floor
        uint8_t image[kCells][3][32];  // what is always there, from each cell; 25 of 32 are used
        bool inside[kCells];           // no wall
    };

    static constexpr Colour kGrey{204, 204, 204}, kWall{25, 25, 25}, kPlayer{228, 148, 109};
    static constexpr Colour kKey{159, 81, 44}, kDoor{134, 206, 235}, kApple{140, 178, 0};
    static constexpr Colour kWhite{255, 255, 255};
    static constexpr Colour kPrimary[3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}};
    static constexpr uint8_t kOrders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                              {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static constexpr int kIndicatorCell = 5;
    static constexpr int kObjectCells[3] = {1 * kColumns + 2, 1 * kColumns + 5, 1 * kColumns + 8};
    static constexpr int kDistractorStart = 5 * kColumns + 5;

    // Patterns as in fastmaze/specs/pixel_worlds.py, without what is painted on top.
    static constexpr Grid kKeyRoom =
        "  #######  " "  #kkkkk#  " "  #kkkkk#  " "  ##   ##  "
        "  #+++++#  " "  #+++++#  " "  #######  ";
    static constexpr Grid kCell =
        "           " "    ppp    " "    p+p    " "    ppp    "
        "           " "           " "           ";
    static constexpr Grid kColouredRoom =
        "  ppppppp  " "  p     p  " "  p     p  " "  pp   pp  "
        "  p+++++p  " "  p+++++p  " "  ppppppp  ";
    static constexpr Grid kOrchard =
        "###########" "#a a a a a#" "# a a a a #" "#a a a a a#"
        "# a a a a #" "#a a + a a#" "###########";
    static constexpr Grid kDoorRoom =
        "           " "   ##d##   " "   #   #   " "   # + #   "
        "   #   #   " "   #####   " "           ";
    static constexpr Grid kLargeDoorRoom =
        "  #######  " "  #+++++#  " "  #+++++#  " "  ##   ##  "
        "  #ddddd#  " "  #ddddd#  " "  #######  ";
    static constexpr Grid kMatchRoom =
        "###########" "#         #" "#         #" "#         #"
        "####   ####" "   # + #   " "   #####   ";

    explicit PixelRooms(Kind kind) : kind_(kind) {
        build_rooms();
        build_apples();
    }

    bool is_match() const { return kind_ >= kPassiveMatch; }

    // One row of apple cells: which bits of the 22 are its own, and where they stand.
    struct AppleRow {
        int kind = 0, first = 0;
        uint32_t bits = 0;
    };

    Kind kind_;
    Cells objects_, starts_, goals_, reward_starts_;
    Room rooms_[3];
    uint8_t crop_[kCells][kCells];     // where a cell is seen from another; 25 if it is not
    uint8_t apple_at_[kCells];         // which apple a cell may hold; the last lane if none
    AppleRow apple_rows_[kRows + 4];   // with two rows outside on either side
    uint64_t spread_[4][kColumns][32] = {};  // by kind of row, the player's column, and the bits

  private:
    void build_rooms() {
        const Grid explore = kind_ == kPassiveMatch  ? kCell
                             : kind_ == kActiveMatch ? kColouredRoom
                                                     : kKeyRoom;
        const Grid reward = is_match()                  ? kMatchRoom
                            : kind_ == kLargeKeyToDoor ? kLargeDoorRoom
                                                       : kDoorRoom;
        for (int cell = 0; cell < kCells; ++cell) {
            if (explore[cell] == (is_match() ? 'p' : 'k')) objects_.add(cell);
            if (explore[cell] == '+') starts_.add(cell);
            if (reward[cell] == '+') reward_starts_.add(cell);
            if (!is_match() && reward[cell] == 'd') goals_.add(cell);
        }
        for (int i = 0; is_match() && i < 3; ++i) goals_.add(i);
        for (int from = 0; from < kCells; ++from) {
            for (int cell = 0; cell < kCells; ++cell) {
                const int down = cell / kColumns - from / kColumns + 2;
                const int right = cell % kColumns - from % kColumns + 2;
                const bool in_view = down >= 0 && down < 5 && right >= 0 && right < 5;
                crop_[from][cell] = static_cast<uint8_t>(in_view ? 5 * down + right : 25);
            }
        }
        build_room(explore, rooms_[kExplore]);
        build_room(kOrchard, rooms_[kDistractor]);
        build_room(reward, rooms_[kReward]);
    }

    void build_room(Grid grid, Room& room) {
        constexpr int kDown[4] = {-1, 1, 0, 0}, kRight[4] = {0, 0, -1, 1};
        const auto is_wall = [&](int cell) { return grid[cell] == '#' || grid[cell] == 'p'; };
        for (int cell = 0; cell < kCells; ++cell) {
            room.inside[cell] = !is_wall(cell);
            for (int action = 0; action < 4; ++action) {
                const int row = cell / kColumns + kDown[action];
                const int column = cell % kColumns + kRight[action];
                const bool outside = row < 0 || row >= kRows || column < 0 || column >= kColumns;
                const int target = row * kColumns + column;
                room.next[cell][action] =
                    static_cast<uint8_t>(outside || is_wall(target) ? cell : target);
            }
            for (int c = 0; c < 3; ++c) {
                const auto channel = static_cast<size_t>(c);
                std::memset(room.image[cell][c], kGrey[channel], 32);
                for (int other = 0; other < kCells; ++other) {
                    const int at = crop_[cell][other];
                    if (at < 25 && is_wall(other)) room.image[cell][c][at] = kWall[channel];
                }
                room.image[cell][c][12] = kPlayer[channel];
            }
        }
    }

    void build_apples() {
        int next = 0;
        for (uint8_t& apple : apple_at_) apple = kLanes - 1;
        for (int row = 0; row < kRows; ++row) {
            AppleRow& apples = apple_rows_[row + 2];
            Cells columns;
            apples.first = next;
            for (int column = 0; column < kColumns; ++column) {
                if (kOrchard[row * kColumns + column] != 'a') continue;
                apple_at_[row * kColumns + column] = static_cast<uint8_t>(next++);
                columns.add(column);
            }
            apples.bits = (1u << columns.count) - 1;
            // Rows 1 and 3 are alike, and so are rows 2 and 4.
            apples.kind = row < 1 || row > 5 ? 0 : row < 3 ? row : row < 5 ? row - 2 : 3;
            for (int player = 0; player < kColumns; ++player) {
                for (uint32_t pattern = 0; pattern <= apples.bits; ++pattern) {
                    uint64_t& spread = spread_[apples.kind][player][pattern];
                    spread = 0;
                    for (int i = 0; i < columns.count; ++i) {
                        const int at = columns.cell[i] - player + 2;
                        if ((pattern >> i & 1) && at >= 0 && at < 5) {
                            spread |= uint64_t{0xFF} << 8 * at;
                        }
                    }
                }
            }
        }
    }
};

}  // namespace fastmaze::FASTMAZE_NAMESPACE
