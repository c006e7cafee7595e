// Runs one function over a static partition of [0, size) on a fixed set of threads.
//
// Which thread does which part never changes a result: envs are independent and every draw is a
// function of the env's index.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace fastmaze {

class ThreadPool {
  public:
    explicit ThreadPool(int num_threads) : num_threads_(num_threads) {}
    ~ThreadPool() { stop(); }
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int num_threads() const { return num_threads_; }

    // Calls task(begin, end) on parts of [0, size) whose bounds are multiples of `grain`; a part
    // has at least `least` items, so that small batches stay on the calling thread.
    template <class Task>
    void run(int64_t size, int64_t grain, int64_t least, const Task& task) {
        const int64_t useful = size / least;
        const int parts = static_cast<int>(useful < num_threads_ ? useful : num_threads_);
        if (parts <= 1) {
            task(0, size);
            return;
        }
        start();
        Shared& shared = *shared_;
        shared.task = &task;
        shared.call = [](const void* any, int64_t begin, int64_t end) {
            (*static_cast<const Task*>(any))(begin, end);
        };
        shared.size = size;
        shared.grain = grain;
        shared.parts = parts;
        shared.unfinished.store(num_threads_ - 1, std::memory_order_relaxed);
        shared.round.fetch_add(1, std::memory_order_release);
        shared.round.notify_all();
        shared.run_part(0);
        // The others started at the same time on parts of the same size: spin, then sleep.
        for (int left; (left = shared.unfinished.load(std::memory_order_acquire)) != 0;) {
            if (!spin([&] { return shared.unfinished.load(std::memory_order_acquire) == 0; })) {
                shared.unfinished.wait(left, std::memory_order_acquire);
            }
        }
    }

    // Ends the threads; the next run starts new ones.
    void stop() {
        if (!shared_) return;
        if (forks_ != fork_count().load()) {
            (void)shared_.release();
            return;
        }
        shared_->stopping.store(true, std::memory_order_release);
        shared_->round.fetch_add(1, std::memory_order_release);
        shared_->round.notify_all();
        for (std::thread& thread : shared_->threads) thread.join();
        shared_.reset();
    }

    // Forgets the threads without joining them: for a child process, where they do not exist.
    static void after_fork_in_child() { fork_count().fetch_add(1); }

  private:
    // What the threads share; outlives the pool in a forked child, where nobody may free it.
    struct Shared {
        std::atomic<uint32_t> round{0};
        std::atomic<int> unfinished{0};
        std::atomic<bool> stopping{false};
        const void* task = nullptr;
        void (*call)(const void* task, int64_t begin, int64_t end) = nullptr;
        int64_t size = 0, grain = 1;
        int parts = 1;
        std::vector<std::thread> threads;

        void run_part(int part) const {
            if (part >= parts) return;
            const int64_t grains = (size + grain - 1) / grain;
            const int64_t begin = grains * part / parts * grain;
            const int64_t end = grains * (part + 1) / parts * grain;
            call(task, begin, end < size ? end : size);
        }

        void work(int part) {
            uint32_t seen = 0;
            for (;;) {
                if (!spin([&] { return round.load(std::memory_order_acquire) != seen; })) {
                    round.wait(seen, std::memory_order_acquire);
                }
                if (round.load(std::memory_order_acquire) == seen) continue;
                seen = round.load(std::memory_order_acquire);
                if (stopping.load(std::memory_order_acquire)) return;
                run_part(part);
                if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                    unfinished.notify_one();
                }
            }
        }
    };

    // Polls for some microseconds, the time between two steps of a fast trainer.
    template <class Ready>
    static bool spin(const Ready& ready) {
        for (int i = 0; i < 1000; ++i) {
            if (ready()) return true;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        return false;
    }

    static std::atomic<uint64_t>& fork_count() {
        static std::atomic<uint64_t> count{0};
        return count;
    }

    void start() {
        if (shared_ && forks_ != fork_count().load()) (void)shared_.release();
        if (shared_) return;
        forks_ = fork_count().load();
        shared_ = std::make_unique<Shared>();
        Shared* shared = shared_.get();
        try {
            for (int part = 1; part < num_threads_; ++part) {
                shared->threads.emplace_back([shared, part] { shared->work(part); });
            }
        } catch (...) {  // the system has no more threads to give: end those that did start
            stop();
            throw;
        }
    }

    int num_threads_;
    uint64_t forks_ = 0;
    std::unique_ptr<Shared> shared_;
};

}  // namespace fastmaze
