#include "tests/cases.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "aqua.h"
#include "core/platform.h"
#include "core/transfers.h"
#include "tests/check.h"

namespace aqua::harness {
namespace {

constexpr int32_t kZero[] = {0};
constexpr int32_t kOne[] = {1};

// Does what it is told to when it is told to.
class HeldCopier final : public Copier {
 public:
  explicit HeldCopier(std::vector<Job>* jobs) : jobs_(jobs) {}
  void Start(Job job) override { jobs_->push_back(std::move(job)); }
  void Join() override {}

 private:
  std::vector<Job>* const jobs_;
};

// Two stores of ordinary memory over a copier that holds its jobs. One thread.
struct Bench {
  explicit Bench(int64_t first_ticket = 1) : transfers(&stores, first_ticket) {
    pool = Register("pool", pool_bytes);
    arena = Register("arena", arena_bytes);
    CHECK_THAT(transfers.Start(std::make_unique<HeldCopier>(&jobs)).ok(), "start");
  }
  ~Bench() {
    FinishAll();
    CHECK_THAT(transfers.Close(0).ok(), "close");
  }

  int32_t Register(const char* label, std::vector<std::byte>& bytes) {
    return stores.Register(label, {{bytes.data(), kHostDevice}}, 4, 16, nullptr).value()->handle;
  }
  int64_t Open(const int32_t* source, const int32_t* target, int32_t gate) {
    const auto ticket = transfers.Open(pool, arena, source, target, 1, gate);
    CHECK_THAT(ticket.ok(), "%s", ticket.status().text.c_str());
    return ticket.value();
  }
  int64_t OpenFence(const std::vector<int64_t>& tickets, double seconds) {
    const auto ticket = transfers.OpenFence(pool, tickets.data(),
                                            static_cast<int32_t>(tickets.size()), seconds);
    CHECK_THAT(ticket.ok(), "%s", ticket.status().text.c_str());
    return ticket.value();
  }
  Status Reach(Direction direction, int64_t ticket) {
    return transfers.Reach(pool_bytes.data(), direction, static_cast<int32_t>(ticket & 0x7fffffff),
                           nullptr);
  }
  void Finish(size_t job, const Status& status = {}) {
    const Job finished = std::move(jobs[job]);
    jobs.erase(jobs.begin() + static_cast<std::ptrdiff_t>(job));
    finished.done(status, NowNanoseconds());
  }
  void FinishAll() {
    while (!jobs.empty()) Finish(0);
  }
  aqua_completion Next() {
    aqua_completion completion;
    CHECK_THAT(transfers.Wait(10, &completion, 1) == 1, "no completion came");
    return completion;
  }

  std::vector<std::byte> pool_bytes{64}, arena_bytes{64};
  StoreTable stores;
  std::vector<Job> jobs;
  Transfers transfers;
  int32_t pool = 0, arena = 0;
};

void TicketsPassTheWrapOf31Bits() {
  Bench bench((int64_t{1} << 31) - 2);
  for (int i = 0; i < 4; ++i) {
    const int64_t ticket = bench.Open(kZero, kZero, bench.pool);
    CHECK_THAT(bench.Reach(Direction::kOut, ticket).ok(), "ticket %lld",
               static_cast<long long>(ticket));
    CHECK_THAT(bench.jobs.size() == 1, "ticket %lld did not pass", static_cast<long long>(ticket));
    bench.FinishAll();
    CHECK_THAT(bench.Next().ticket == ticket, "ticket %lld", static_cast<long long>(ticket));
  }
}

void AProgramOutOfTurnFailsTheTicketsThatWait() {
  Bench bench;
  const int64_t running = bench.Open(kZero, kZero, bench.pool);
  CHECK_THAT(bench.Reach(Direction::kOut, running).ok(), "the first program");
  const int64_t waiting = bench.Open(kOne, kOne, bench.pool);
  CHECK_THAT(bench.Reach(Direction::kIn, -1).ok(), "XLA would free the pool");
  const aqua_completion failed = bench.Next();
  CHECK_THAT(failed.ticket == waiting && failed.error.code == AQUA_INVALID, "ticket %lld: code %d",
             static_cast<long long>(failed.ticket), failed.error.code);
  CHECK_THAT(bench.Reach(Direction::kOut, waiting).ok(), "its own program");
  CHECK_THAT(bench.jobs.size() == 1, "a failed ticket was copied");
  bool opened = false;
  const Status status =
      bench.transfers.ReachFence(bench.pool_bytes.data(), -1, [&opened] { opened = true; });
  CHECK_THAT(status.ok() && opened, "a fence that nobody opened holds its program");
  const aqua_completion nobodys = bench.Next();
  CHECK_THAT(nobodys.ticket == 0 && nobodys.error.code == AQUA_STALE, "ticket %lld: code %d",
             static_cast<long long>(nobodys.ticket), nobodys.error.code);
  const int64_t later = bench.Open(kOne, kOne, bench.pool);
  CHECK_THAT(bench.Reach(Direction::kOut, later + 1).ok(), "another ticket's number");
  CHECK_THAT(bench.Next().ticket == later && bench.jobs.size() == 1, "another ticket passed");
  bench.FinishAll();
  CHECK_THAT(bench.Next().error.code == AQUA_OK, "the copy under way failed");
}

void AFailedJobLetsItsFollowersRun() {
  Bench bench;
  bench.Open(kZero, kZero, 0);
  bench.Open(kOne, kZero, 0);  // the same target
  CHECK_THAT(bench.jobs.size() == 1, "%zu jobs run", bench.jobs.size());
  bench.Finish(0, AQUA_ERROR(AQUA_INTERNAL, "on purpose"));
  CHECK_THAT(bench.jobs.size() == 1, "%zu jobs run", bench.jobs.size());
  CHECK_THAT(bench.Next().error.code == AQUA_INTERNAL, "the error is lost");
  bench.Finish(0);
  CHECK_THAT(bench.Next().error.code == AQUA_OK, "the error was passed on");
}

void ReadersOfAPageDoNotWaitForOneAnother() {
  Bench bench;
  bench.Open(kZero, kZero, 0);
  bench.Open(kZero, kOne, 0);
  CHECK_THAT(bench.jobs.size() == 2, "%zu jobs run", bench.jobs.size());
}

void AFenceTimesOutAndLetsThePoolGoOn() {
  Bench bench;
  const int64_t copy = bench.Open(kZero, kZero, 0);
  const int64_t fence = bench.OpenFence({copy}, 0.01);
  int opened = 0;
  std::mutex mutex;
  const Status status =
      bench.transfers.ReachFence(bench.pool_bytes.data(), static_cast<int32_t>(fence), [&] {
        std::lock_guard<std::mutex> lock(mutex);
        ++opened;
      });
  CHECK_THAT(status.ok(), "%s", status.text.c_str());
  const aqua_completion late = bench.Next();
  CHECK_THAT(late.ticket == fence && late.error.code == AQUA_TIMEOUT, "code %d", late.error.code);
  bench.FinishAll();
  CHECK_THAT(bench.Next().ticket == copy, "the copy is lost");
  CHECK_THAT(bench.transfers.Close(10).ok(), "close");  // joins who called back
  CHECK_THAT(opened == 1, "opened %d times", opened);
}

void AChainOfFencesNeedsNoStack() {
  Bench bench;
  std::vector<int64_t> chain = {bench.Open(kZero, kZero, 0)};
  int opened = 0;
  while (chain.size() < static_cast<size_t>(kTicketsMax)) {
    chain.push_back(bench.OpenFence({chain.back()}, 1000));
    const Status status = bench.transfers.ReachFence(
        bench.pool_bytes.data(), static_cast<int32_t>(chain.back()), [&opened] { ++opened; });
    CHECK_THAT(status.ok(), "%s", status.text.c_str());
  }
  const auto one_more = bench.transfers.OpenFence(bench.pool, nullptr, 0, 1);
  CHECK_THAT(one_more.status().code == AQUA_EXHAUSTED, "code %d", one_more.status().code);
  bench.FinishAll();
  CHECK_THAT(opened == kTicketsMax - 1, "%d opened", opened);
}

void AnArenaThatRetiresLeavesItsTicketsPlace() {
  Bench bench;
  const int64_t first = bench.Open(kZero, kZero, bench.pool);
  const int64_t second = bench.OpenFence({first}, 1000);
  CHECK_THAT(bench.transfers.Retire(bench.arena, "on purpose").value() == 0, "copies under way");
  CHECK_THAT(bench.Next().error.code == AQUA_STALE, "code");
  CHECK_THAT(bench.Reach(Direction::kOut, first).ok(), "its program meets an error");
  CHECK_THAT(bench.jobs.empty(), "a failed ticket was copied");
  CHECK_THAT(bench.transfers.Abandon(second, "on purpose").ok(), "abandon");
  CHECK_THAT(bench.transfers.Abandon(second, "again").code == AQUA_STALE, "abandoned twice");
}

void CloseIsBoundedAndCanBeTakenUpAgain() {
  Bench bench;
  bench.Open(kZero, kZero, 0);
  const int64_t second = bench.Open(kOne, kZero, 0);  // waits for the first
  CHECK_THAT(bench.transfers.Close(0.01).code == AQUA_TIMEOUT, "a held job was not waited for");
  const aqua_completion failed = bench.Next();
  CHECK_THAT(failed.ticket == second && failed.error.code == AQUA_CLOSED, "code %d",
             failed.error.code);
  CHECK_THAT(bench.transfers.Open(bench.pool, bench.arena, kZero, kZero, 1, 0).status().code ==
                 AQUA_CLOSED,
             "opened while closing");
  bench.Finish(0);
  CHECK_THAT(bench.Next().error.code == AQUA_OK, "the running job failed");
  CHECK_THAT(bench.transfers.Close(10).ok(), "close");
  CHECK_THAT(bench.transfers.Start(std::make_unique<HeldCopier>(&bench.jobs)).ok(), "start again");
}

void SizesThatOverflowAreRefused() {
  StoreTable stores;
  std::byte byte;
  const auto refused = [&](int64_t pages, int64_t page_bytes) {
    return stores.Register("x", {{&byte, kHostDevice}}, pages, page_bytes, nullptr).status().code ==
           AQUA_OUT_OF_RANGE;
  };
  CHECK_THAT(refused(1, INT64_MAX) && refused(INT64_MAX, 1) && refused(INT64_MAX, INT64_MAX) &&
                 refused(kPagesMax, int64_t{1} << 40) && refused(0, 1) && refused(1, 0),
             "accepted");
}

void SharedMemoryIsSharedAndOfItsSize() {
  constexpr int64_t kBytes = 10000;
  aqua_error error;
  const int64_t lent = aqua_memory_allocate(AQUA_MEMORY_SHARED, kBytes, 0, &error);
  const auto fd = static_cast<int32_t>(aqua_memory_export(lent, &error));
  CHECK_THAT(fd >= 0, "%s", error.text);
  CHECK_THAT(aqua_memory_import(AQUA_MEMORY_SHARED, fd, kBytes + 1, 0, &error) == -1, "size");
  CHECK_THAT(aqua_memory_import(AQUA_MEMORY_SHARED, 0, kBytes, 0, &error) == -1, "not a memfd");
  const int64_t borrowed = aqua_memory_import(AQUA_MEMORY_SHARED, fd, kBytes, 0, &error);
  CHECK_THAT(borrowed > 0, "%s", error.text);
  close(fd);
  auto* const ours = reinterpret_cast<char*>(aqua_memory_address(lent, &error));
  auto* const theirs = reinterpret_cast<char*>(aqua_memory_address(borrowed, &error));
  ours[kBytes - 1] = 7;
  CHECK_THAT(theirs[kBytes - 1] == 7, "not the same memory");
  CHECK_THAT(aqua_memory_free(lent, &error) == 0, "%s", error.text);
  CHECK_THAT(theirs[kBytes - 1] == 0, "not scrubbed");
  CHECK_THAT(aqua_memory_free(borrowed, &error) == 0, "%s", error.text);
  CHECK_THAT(aqua_memory_free(borrowed, &error) == -1 && error.code == AQUA_STALE, "freed twice");
  CHECK_THAT(aqua_memory_live_bytes() == 0, "leaked");
}

void AWakeEndsOneWait() {
  aqua_completion completion;
  aqua_wake();
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THAT(aqua_wait(100, &completion, 1) == 0, "a completion from nowhere");
  CHECK_THAT(aqua_wait(0.001, &completion, 1) == 0, "a completion from nowhere");
  CHECK_THAT(std::chrono::steady_clock::now() - begin < kPatience / 2, "the wake was lost");
}

}  // namespace

void RunCases() {
  TicketsPassTheWrapOf31Bits();
  AFailedJobLetsItsFollowersRun();
  ReadersOfAPageDoNotWaitForOneAnother();
  AFenceTimesOutAndLetsThePoolGoOn();
  AChainOfFencesNeedsNoStack();
  AProgramOutOfTurnFailsTheTicketsThatWait();
  AnArenaThatRetiresLeavesItsTicketsPlace();
  CloseIsBoundedAndCanBeTakenUpAgain();
  SizesThatOverflowAreRefused();
  SharedMemoryIsSharedAndOfItsSize();
  AWakeEndsOneWait();
}

}  // namespace aqua::harness
