#include "cpu/thread_copier.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "core/clock.h"
#include "core/threads.h"
#include "cpu/stream_copy.h"

namespace aqua {
namespace {

// Small enough that two threads share one page of 2 MiB, large enough (0.1 ms) that taking a piece
// costs nothing beside copying it.
constexpr int64_t kPieceBytes = int64_t{1} << 20;

Status Pin(std::thread* thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (core < 0 || core >= CPU_SETSIZE) {
    return AQUA_ERROR(AQUA_OUT_OF_RANGE, "core %d: expected 0 to %d", core, CPU_SETSIZE - 1);
  }
  CPU_SET(core, &set);
  const int error = pthread_setaffinity_np(thread->native_handle(), sizeof(set), &set);
  if (error == 0) return {};
  return AQUA_ERROR(AQUA_INVALID, "cannot pin a transfer thread to core %d: %s", core,
                    std::strerror(error));
}

}  // namespace

Result<std::unique_ptr<Copier>> ThreadCopier::Make(int threads, const std::vector<int>& cores) {
  std::unique_ptr<ThreadCopier> copier(new ThreadCopier);  // NOLINT: a private constructor
  copier->threads_.reserve(threads);
  for (int i = 0; i < threads; ++i) {
    const std::string name = "aqua-copy-" + std::to_string(i);
    ThreadCopier* const self = copier.get();
    copier->threads_.push_back(QuietThread(name.c_str(), [self] { self->Loop(); }));
    if (cores.empty()) continue;
    AQUA_RETURN_IF_ERROR(Pin(&copier->threads_.back(), cores[i % cores.size()]));
  }
  return std::unique_ptr<Copier>(std::move(copier));
}

ThreadCopier::~ThreadCopier() { Join(); }

void ThreadCopier::Start(Job job) {
  int64_t bytes = 0;
  for (const Range& range : job.ranges) bytes += range.bytes;
  const auto work = std::make_shared<Work>();
  work->job = std::move(job);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(work);
  }
  if (bytes > kPieceBytes) {
    changed_.notify_all();
  } else {
    changed_.notify_one();
  }
}

void ThreadCopier::Join() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    joining_ = true;
  }
  changed_.notify_all();
  std::lock_guard<std::mutex> lock(join_mutex_);
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void ThreadCopier::Loop() {
  std::vector<Range> piece;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return joining_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::shared_ptr<Work> work = queue_.front();
    if (work->started_ns == 0) work->started_ns = NowNanoseconds();
    TakePiece(work.get(), &piece);
    ++work->copying;
    const bool last = work->range == work->job.ranges.size();
    if (last) queue_.pop_front();
    lock.unlock();
    for (const Range& range : piece) {
      StreamCopy(range.target, range.source, range.bytes);
    }
    lock.lock();
    const bool handed_out = work->range == work->job.ranges.size();
    if (--work->copying > 0 || !handed_out) continue;
    lock.unlock();
    work->job.done({}, work->started_ns);
    lock.lock();
  }
}

// The next kPieceBytes of the job: part of a large range, or several small ones.
void ThreadCopier::TakePiece(Work* work, std::vector<Range>* piece) {
  piece->clear();
  int64_t room = kPieceBytes;
  while (room > 0 && work->range < work->job.ranges.size()) {
    const Range& range = work->job.ranges[work->range];
    const int64_t bytes = std::min(room, range.bytes - work->offset);
    piece->push_back({range.source + work->offset, range.target + work->offset, bytes});
    room -= bytes;
    work->offset += bytes;
    if (work->offset == range.bytes) {
      ++work->range;
      work->offset = 0;
    }
  }
}

}  // namespace aqua
