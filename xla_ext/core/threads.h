// Threads of the library: named, and deaf to signals (but faults), which are the host program's.
#ifndef AQUA_CORE_THREADS_H_
#define AQUA_CORE_THREADS_H_

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace aqua {

// `name`: at most 15 characters. Throws std::system_error when there can be no more threads.
template <typename F>
std::thread QuietThread(const char* name, F&& body) {
  sigset_t all, before;
  sigfillset(&all);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the new thread inherits it
  struct Restore {
    const sigset_t* mask;
    ~Restore() { pthread_sigmask(SIG_SETMASK, mask, nullptr); }
  } restore{&before};
  std::thread thread(std::forward<F>(body));
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

}  // namespace aqua
#endif  // AQUA_CORE_THREADS_H_
