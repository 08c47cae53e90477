// Copies, gates and fences of the CUDA library over a runtime whose streams are threads.
//
// Shows that every byte arrives after its gate and before its ticket, in the core's order, that no
// fence waits for what stands behind it, and that nothing is left behind. Run under sanitizers.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "aqua.h"
#include "core/clock.h"
#include "core/store.h"
#include "core/transfers.h"
#include "cuda/driver.h"
#include "cuda/flags.h"
#include "cuda/runtime.h"
#include "cuda/stream_copier.h"
#include "cuda/tests/fake_cuda.h"

namespace aqua {
namespace {

#define EXPECT(condition)                                                            \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE_NAME__, __LINE__, #condition); \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (false)

constexpr int kPages = 16, kPageBytes = 256;
constexpr double kSeconds = 20.0;

// A pool on device 0, arenas on devices 0 to 2 and on the host, and XLA's stream on device 0.
class World {
 public:
  World() {
    for (int device : {0, 0, 1, kHostDevice, 2}) {
      memory_.push_back(std::make_unique<std::vector<std::byte>>(kPages * kPageBytes));
      Result<std::shared_ptr<Store>> store = stores_.Register(
          "store " + std::to_string(memory_.size()), {{memory_.back()->data(), device}}, kPages,
          kPageBytes, nullptr);
      EXPECT(store.ok());
      handles_.push_back(store.value()->handle);
    }
    EXPECT(transfers_.Start(std::make_unique<StreamCopier>()).ok());
    EXPECT(FlagPool::The().Prepare().ok());
    stream_ = std::move(MakeStream()).value();
  }
  ~World() {
    fake::Drain(stream_.get());
    EXPECT(transfers_.Close(kSeconds).ok());
  }

  std::byte* Page(int store, int page) { return memory_[store]->data() + page * kPageBytes; }
  cudaStream_t stream() { return stream_.get(); }
  Transfers& transfers() { return transfers_; }

  // Opens a copy; of the pool (store 0), reaches it as the handler does.
  int64_t Copy(int source, int target, const std::vector<int32_t>& sources,
               const std::vector<int32_t>& targets) {
    const bool has_pool = source == 0 || target == 0;
    const Result<int64_t> ticket =
        transfers_.Open(handles_[source], handles_[target], sources.data(), targets.data(),
                        static_cast<int32_t>(sources.size()), has_pool ? handles_[0] : 0);
    EXPECT(ticket.ok());
    if (has_pool) {
      Result<std::shared_ptr<Gate>> gate = StreamGate::Record(stream());
      EXPECT(gate.ok());
      const Direction direction = source == 0 ? Direction::kOut : Direction::kIn;
      EXPECT(transfers_.Reach(Page(0, 0), direction, -1, std::move(gate).value()).ok());
    }
    return ticket.value();
  }

  // A fence, as the handler does it.
  int64_t Fence(const std::vector<int64_t>& awaited, double seconds = kSeconds) {
    const Result<int64_t> ticket = transfers_.OpenFence(
        handles_[0], awaited.data(), static_cast<int32_t>(awaited.size()), seconds);
    EXPECT(ticket.ok());
    Flag flag = std::move(FlagPool::The().Lend()).value();
    EXPECT(transfers_.ReachFence(Page(0, 0), -1, [flag]() mutable { flag.Raise(); }).ok());
    if (!flag.is_raised()) EXPECT(flag.MakeWait(stream()).ok());
    return ticket.value();
  }

  // Codes of the next `count` completions, by ticket from the first opened.
  std::vector<aqua_completion> Wait(size_t count) {
    std::vector<aqua_completion> found(count);
    size_t have = 0;
    const auto deadline = DeadlineAfter(kSeconds);
    while (have < count && Clock::now() < deadline) {
      have += transfers_.Wait(0.1, found.data() + have, static_cast<int32_t>(count - have));
    }
    EXPECT(have == count);
    return found;
  }

 private:
  std::vector<std::unique_ptr<std::vector<std::byte>>> memory_;
  StoreTable stores_;
  Transfers transfers_{&stores_};
  std::vector<int32_t> handles_;
  Stream stream_;
};

void CheckCopiesWaitForTheirGate() {
  World world;
  fake::Enqueue(world.stream(), [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::memset(world.Page(0, 0), 7, kPages * kPageBytes);
  });
  const int before = fake::batches();
  world.Copy(0, 3, {1, 2}, {1, 2});                       // one range
  world.Copy(0, 2, {1, 3, 5, 7, 9}, {9, 7, 5, 3, 1});     // many: a batch, to a peer
  for (const aqua_completion& done : world.Wait(2)) EXPECT(done.error.code == AQUA_OK);
  EXPECT(fake::batches() == before + 1);
  EXPECT(world.Page(3, 2)[0] == std::byte{7} && world.Page(2, 9)[0] == std::byte{7});
}

// The fence waits for a copy that waits for another; a copy whose gate lies behind the fence has
// the same pair of devices and came to the copier before it.
void CheckNoFenceWaitsForWhatIsBehindIt() {
  World world;
  fake::SetCopyMicroseconds(5000);
  std::memset(world.Page(3, 0), 9, kPageBytes);
  const int64_t slow = world.Copy(3, 1, {0}, {0});  // host to arena, at once
  const int64_t awaited = world.Copy(1, 0, {0}, {3});
  world.Fence({slow, awaited});
  std::byte seen{};
  fake::Enqueue(world.stream(), [&] { seen = world.Page(0, 3)[0]; });
  world.Copy(1, 0, {5}, {6});
  for (const aqua_completion& done : world.Wait(4)) EXPECT(done.error.code == AQUA_OK);
  fake::Drain(world.stream());
  EXPECT(seen == std::byte{9});
  fake::SetCopyMicroseconds(0);
}

void CheckAFenceTimesOut() {
  World world;
  fake::SetCopyMicroseconds(300000);
  const int64_t slow = world.Copy(3, 1, {0}, {0});
  const int64_t fence = world.Fence({slow}, 0.02);
  fake::Drain(world.stream());  // it let go
  for (const aqua_completion& done : world.Wait(2)) {
    EXPECT(done.error.code == (done.ticket == fence ? AQUA_TIMEOUT : AQUA_OK));
  }
  fake::SetCopyMicroseconds(0);
}

void CheckErrorsAreTheTickets() {
  World world;
  world.Copy(0, 4, {1}, {1});
  EXPECT(world.Wait(1)[0].error.code == AQUA_UNAVAILABLE);
  world.Copy(3, 4, {1}, {1});  // the host reaches every device
  EXPECT(world.Wait(1)[0].error.code == AQUA_OK);
  for (const int refused : {1, 2}) {
    fake::RefuseCopy(refused);
    world.Copy(3, 1, {1, 5}, {1, 3});
    const aqua_completion done = world.Wait(1)[0];
    EXPECT(done.error.code == AQUA_INTERNAL && done.bytes == 0);
    EXPECT(std::strstr(done.error.text, "cudaErrorInvalidValue") != nullptr);
  }
  world.Copy(3, 1, {1, 5}, {1, 3});
  EXPECT(world.Wait(1)[0].error.code == AQUA_OK);
}

// Only what the driver itself says it does not do: a check that cannot run is no mistake of ours.
void CheckWhatIsUnavailable() {
  EXPECT(AQUA_DRIVER_STATUS(CUDA_ERROR_NOT_SUPPORTED).code == AQUA_UNAVAILABLE);
  EXPECT(AQUA_DRIVER_STATUS(CUDA_ERROR_NOT_PERMITTED).code == AQUA_UNAVAILABLE);
  EXPECT(AQUA_DRIVER_STATUS(CUDA_ERROR_INVALID_HANDLE).code == AQUA_INTERNAL);
  EXPECT(AQUA_DRIVER_STATUS(CUDA_ERROR_OPERATING_SYSTEM).code == AQUA_INTERNAL);
  EXPECT(AQUA_DRIVER_STATUS(CUDA_SUCCESS).ok());
}

// A device that has stopped: Join ends all the same, and nothing is freed that it may write.
void CheckJoinEnds() {
  std::atomic<bool> is_stuck{true};
  std::atomic<int> ended{0};
  std::byte source[8] = {}, target[8] = {};
  Stream stream = std::move(MakeStream()).value();
  fake::Enqueue(stream.get(), [&] {
    while (is_stuck) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  {
    StreamCopier copier(0.05);
    for (const bool has_gate : {true, false}) {
      Job job;
      job.ranges = {{source, target, 8}};
      job.source_device = 0;
      job.target_device = kHostDevice;
      if (has_gate) job.gate = std::move(StreamGate::Record(stream.get())).value();
      job.done = [&ended, has_gate](Status status, int64_t) {
        EXPECT(status.code == (has_gate ? AQUA_CLOSED : AQUA_OK));
        ++ended;
      };
      copier.Start(std::move(job));
    }
    copier.Join();
    copier.Join();
  }
  EXPECT(ended == 2);
  is_stuck = false;
  fake::Drain(stream.get());
}

// Programs, copies in all directions and fences in random order, against a copy of all memory on
// which each happens at once.
void CheckRandomPlans(int seed) {
  std::mt19937 random(seed);
  const auto below = [&random](int n) { return static_cast<int>(random() % n); };
  World world;
  std::vector<std::vector<uint8_t>> mirror(4, std::vector<uint8_t>(kPages, 0));
  std::vector<int64_t> open;
  size_t unread = 0;
  fake::SetCopyMicroseconds(below(3) * 100);
  for (int step = 0; step < 60; ++step) {
    const int kind = below(4);
    if (kind == 0) {  // a program that writes a page; copies before it must have left
      world.Fence(open);
      ++unread;
      open.clear();
      const int page = below(kPages), value = 1 + below(255);
      fake::Enqueue(world.stream(), [&world, page, value] {
        std::memset(world.Page(0, page), value, kPageBytes);
      });
      mirror[0][page] = static_cast<uint8_t>(value);
      continue;
    }
    int source = below(4), target = below(4);
    while (target == source) target = below(4);
    std::vector<int32_t> pages(kPages);
    for (int i = 0; i < kPages; ++i) pages[i] = i;
    std::shuffle(pages.begin(), pages.end(), random);
    const int count = 1 + below(6);
    const std::vector<int32_t> sources(pages.begin(), pages.begin() + count);
    std::shuffle(pages.begin(), pages.end(), random);
    const std::vector<int32_t> targets(pages.begin(), pages.begin() + count);
    open.push_back(world.Copy(source, target, sources, targets));
    ++unread;
    const std::vector<uint8_t> from = mirror[source];
    for (int i = 0; i < count; ++i) mirror[target][targets[i]] = from[sources[i]];
  }
  for (const aqua_completion& done : world.Wait(unread)) EXPECT(done.error.code == AQUA_OK);
  fake::Drain(world.stream());
  for (int store = 0; store < 4; ++store) {
    for (int page = 0; page < kPages; ++page) {
      for (int byte : {0, kPageBytes - 1}) {
        EXPECT(world.Page(store, page)[byte] == std::byte{mirror[store][page]});
      }
    }
  }
  fake::SetCopyMicroseconds(0);
}

}  // namespace
}  // namespace aqua

int main(int count, char** arguments) {
  const int seeds = count > 1 ? std::atoi(arguments[1]) : 20;
  aqua::CheckCopiesWaitForTheirGate();
  aqua::CheckNoFenceWaitsForWhatIsBehindIt();
  aqua::CheckAFenceTimesOut();
  aqua::CheckErrorsAreTheTickets();
  aqua::CheckJoinEnds();
  aqua::CheckWhatIsUnavailable();
  for (int seed = 0; seed < seeds; ++seed) aqua::CheckRandomPlans(seed);
  if (fake::live_events() != 0) {
    std::fprintf(stderr, "%d events are left\n", fake::live_events());
    return 1;
  }
  std::printf("gates, fences, errors, the end, and %d random runs: right\n", seeds);
  return 0;
}
