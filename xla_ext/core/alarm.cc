#include "core/alarm.h"

#include <utility>

#include "core/threads.h"

namespace aqua {

Alarm::Alarm(std::function<void(int64_t, int)> ring)
    : ring_(std::move(ring)), thread_(QuietThread("aqua-alarm", [this] { Loop(); })) {}

Alarm::~Alarm() { Join(); }

void Alarm::Set(const Entry& entry) {
  bool first;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    entries_.insert(entry);
    first = *entries_.begin() == entry;
  }
  if (first) changed_.notify_one();
}

void Alarm::Cancel(const Entry& entry) {
  std::lock_guard<std::mutex> lock(mutex_);
  entries_.erase(entry);  // at worst the thread wakes for nothing
}

void Alarm::Join() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    joining_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Alarm::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!joining_) {
    if (entries_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto [when, ticket, part] = *entries_.begin();
    if (when > Clock::now()) {
      changed_.wait_until(lock, when);
      continue;
    }
    entries_.erase(entries_.begin());
    lock.unlock();
    ring_(ticket, part);
    lock.lock();
  }
}

}  // namespace aqua
