#include "core/machine.h"

#include <cstdio>

namespace aqua {

Status CheckAvailable(int64_t bytes) {
  std::FILE* const file = std::fopen("/proc/meminfo", "re");
  if (file == nullptr) return {};  // then whoever allocates has to say it
  char line[128];
  long long available = -1;
  while (available < 0 && std::fgets(line, sizeof(line), file) != nullptr) {
    (void)std::sscanf(line, "MemAvailable: %lld kB", &available);
  }
  (void)std::fclose(file);
  if (available < 0 || bytes / 1024 < available) return {};
  return AQUA_ERROR(AQUA_EXHAUSTED, "%lld bytes of host memory: the machine has %lld KiB left",
                    static_cast<long long>(bytes), available);
}

}  // namespace aqua
