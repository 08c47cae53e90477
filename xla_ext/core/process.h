// The one state of a library in a process: what aqua.h and the XLA handlers share.
//
// Made on first use and never destroyed: XLA's threads and ours may still run
// while the interpreter exits.
#ifndef AQUA_CORE_PROCESS_H_
#define AQUA_CORE_PROCESS_H_

#include "core/memory.h"
#include "core/store.h"
#include "core/transfers.h"

namespace aqua {

struct Process {
  MemoryTable memories;
  StoreTable stores;
  Transfers transfers{&stores};
};

Process& TheProcess();  // api.cc

}  // namespace aqua
#endif  // AQUA_CORE_PROCESS_H_
