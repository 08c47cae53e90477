// A ticket: a batch of copies or a fence, as state without behaviour.
//
// Knows: what a ticket consists of. Does not know: when what changes (order.h).
#ifndef AQUA_CORE_TICKET_H_
#define AQUA_CORE_TICKET_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/alarm.h"
#include "core/copier.h"
#include "core/runs.h"
#include "core/status.h"
#include "core/store.h"

namespace aqua {

struct Ticket;

// Of a ticket whose source and target are both its pool: kOut.
enum class Direction { kOut, kIn, kFence };

// One job of a ticket.
struct PartOf {
  std::shared_ptr<Ticket> ticket;
  int part;
};

struct TicketPart {
  enum class Stage { kOpen, kRunning, kDone };

  Stage stage = Stage::kOpen;
  bool reached = false;             // its gate, or it has none
  int64_t waits_for = 0;            // earlier jobs of this part; a fence: tickets
  std::vector<PartOf> followers;    // later jobs of this part that wait for this one
  Job job;                          // until it begins
  std::function<void()> when_open;  // of a fence that was reached and is not open
  Alarm::Entry time_out;            // likewise
};

struct Ticket {
  int64_t id = 0;
  Direction direction = Direction::kOut;
  double seconds = 0;                // a fence's patience
  std::array<int32_t, 3> stores{};   // handles of source, target and pool; 0: none
  // Given up with the last job. A fence has a pool only; pool is null when nothing gates the
  // ticket.
  std::shared_ptr<Store> source, target, pool;
  Runs reads, writes;
  std::vector<TicketPart> parts;
  int parts_left = 0;                // not kDone
  std::vector<PartOf> fences;        // that wait for this ticket, by part
  Status status;                     // the first that went wrong
  int64_t bytes = 0;                 // over all parts
  int64_t opened_ns = 0, started_ns = 0, finished_ns = 0;

  bool is_fence() const { return direction == Direction::kFence; }
};

// What became due in a change of order, for the caller to carry out, in this order.
struct Aftermath {
  std::vector<PartOf> begun;                       // to hand to the copier
  std::vector<std::shared_ptr<Store>> stores;      // to let go: perhaps the last on their memory
  std::vector<std::shared_ptr<Ticket>> completed;  // to post, then Order::Forget
  std::vector<Alarm::Entry> silenced;              // alarms that are not needed any more
  std::vector<std::function<void()>> openings;     // of fences
};

}  // namespace aqua
#endif  // AQUA_CORE_TICKET_H_
