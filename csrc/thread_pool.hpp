// Runs one function over a static partition of [0, size) on a fixed set of threads.
//
// Which thread does which part never changes a result: envs are independent and every draw is a
// function of the env's index.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

namespace fastmaze {

class ThreadPool {
  public:
    explicit ThreadPool(int num_threads) : num_threads_(num_threads) {}
    ~ThreadPool() { stop(); }
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // Parts of a run over `size` items, each of at least `least`; 1 keeps to the calling thread.
    int num_parts(int64_t size, int64_t least) const {
        const int64_t useful = size / least;
        return static_cast<int>(useful < num_threads_ ? (useful < 1 ? 1 : useful) : num_threads_);
    }

    // Starts the threads that a later run with so many parts needs; throws where there are none
    // to be had. A run that was prepared does not throw.
    void prepare(int parts) {
        if (shared_ && forks_ != fork_count()) (void)shared_.release();
        if (parts <= 1 || shared_) return;
        forks_ = fork_count();
        shared_ = std::make_unique<Shared>();
        shared_->workers = std::make_unique<Worker[]>(static_cast<size_t>(num_threads_));
        Shared* shared = shared_.get();
        try {
            for (int part = 1; part < num_threads_; ++part) {
                shared->workers[part].thread = std::thread([shared, part] { shared->work(part); });
            }
        } catch (...) {  // the system has no more threads to give: end those that did start
            stop();
            throw;
        }
    }

    // Calls task(begin, end) on `parts` parts of [0, size) whose bounds are multiples of `grain`.
    template <class Task>
    void run(int parts, int64_t size, int64_t grain, const Task& task) {
        if (parts <= 1) {
            task(0, size);
            return;
        }
        prepare(parts);
        Shared& shared = *shared_;
        shared.task = &task;
        shared.call = [](const void* any, int64_t begin, int64_t end) {
            (*static_cast<const Task*>(any))(begin, end);
        };
        shared.size = size;
        shared.grain = grain;
        shared.parts = parts;
        shared.unfinished.store(parts - 1, std::memory_order_relaxed);
        // Only the threads that have a part are woken, and waited for.
        for (int part = 1; part < parts; ++part) {
            shared.workers[part].round.fetch_add(1, std::memory_order_release);
            shared.workers[part].round.notify_one();
        }
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
        if (forks_ != fork_count()) {
            (void)shared_.release();
            return;
        }
        shared_->stopping.store(true, std::memory_order_release);
        for (int part = 1; part < num_threads_; ++part) {
            Worker& worker = shared_->workers[part];
            worker.round.fetch_add(1, std::memory_order_release);
            worker.round.notify_one();
            if (worker.thread.joinable()) worker.thread.join();
        }
        shared_.reset();
    }

    // How often this process is the child of a fork. A child has the pool's memory but none of its
    // threads: it forgets them without joining, and starts its own.
    static uint64_t fork_count() { return forks().load(); }
    static void after_fork_in_child() { forks().fetch_add(1); }

  private:
    struct alignas(64) Worker {
        std::atomic<uint32_t> round{0};
        std::thread thread;
    };

    // What the threads share; outlives the pool in a forked child, where nobody may free it.
    struct Shared {
        std::unique_ptr<Worker[]> workers;  // [0] is the calling thread, and unused
        std::atomic<int> unfinished{0};
        std::atomic<bool> stopping{false};
        const void* task = nullptr;
        void (*call)(const void* task, int64_t begin, int64_t end) = nullptr;
        int64_t size = 0, grain = 1;
        int parts = 1;

        void run_part(int part) const {
            const int64_t grains = (size + grain - 1) / grain;
            const int64_t begin = grains * part / parts * grain;
            const int64_t end = grains * (part + 1) / parts * grain;
            call(task, begin < size ? begin : size, end < size ? end : size);
        }

        void work(int part) {
            std::atomic<uint32_t>& round = workers[part].round;
            for (uint32_t seen = 0;; ++seen) {
                const auto called = [&] { return round.load(std::memory_order_acquire) != seen; };
                while (!called()) {
                    if (!spin(called)) round.wait(seen, std::memory_order_acquire);
                }
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

    static std::atomic<uint64_t>& forks() {
        static std::atomic<uint64_t> count{0};
        return count;
    }

    int num_threads_;
    uint64_t forks_ = 0;
    std::unique_ptr<Shared> shared_;
};

}  // namespace fastmaze
