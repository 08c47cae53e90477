// The CPU library: threads copy, memory is mapped. See core/platform.h.
//
// Memory is there when it has been made: no copy meets its first use, and where there is not as
// much, it is not made.
#include "core/platform.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/machine.h"
#include "cpu/thread_copier.h"

namespace aqua {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE of Linux 5.14; older headers lack it
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

// A descriptor that is closed with its holder.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// kScrub: for those who have it mapped still. Others' memory is left alone, and this process's own
// goes back to the kernel, which zeroes it before anybody gets it.
enum class OnUnmap { kScrub, kNothing };

class MappedMemory final : public Memory {
 public:
  MappedMemory(void* base, int64_t bytes, Descriptor fd, OnUnmap on_unmap)
      : base_(static_cast<std::byte*>(base)),
        bytes_(bytes),
        fd_(std::move(fd)),
        on_unmap_(on_unmap) {}

  ~MappedMemory() override {
    // explicit_bzero: a plain memset of what is unmapped next may be optimised away.
    if (on_unmap_ == OnUnmap::kScrub) explicit_bzero(base_, static_cast<size_t>(bytes_));
    munmap(base_, static_cast<size_t>(bytes_));
  }

  std::byte* base() const override { return base_; }
  int64_t bytes() const override { return bytes_; }

  Result<int> Export() const override {
    if (fd_.get() < 0) {
      return AQUA_ERROR(AQUA_UNAVAILABLE,
                        "memory of this process alone cannot be exported: allocate the shared "
                        "kind");
    }
    const int fd = fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) return fd;
    return AQUA_ERROR(AQUA_UNAVAILABLE, "cannot duplicate a descriptor: %s", std::strerror(errno));
  }

 private:
  std::byte* const base_;
  const int64_t bytes_;
  const Descriptor fd_;  // -1: this process's alone
  const OnUnmap on_unmap_;
};

// Has the kernel find and zero every page now.
Status Populate(void* base, int64_t bytes) {
  const size_t size = static_cast<size_t>(bytes);
  // Advice: where it is not taken, copies are a little slower.
  if (bytes >= kHugePageBytes) madvise(base, size, MADV_HUGEPAGE);
  // EINVAL: a kernel that does not know it; there the first copy into a page pays.
  if (madvise(base, size, kPopulateWrite) == 0 || errno == EINVAL) return {};
  return AQUA_ERROR(AQUA_EXHAUSTED, "no memory behind %lld bytes: %s",
                    static_cast<long long>(bytes), std::strerror(errno));
}

// `fd` -1: anonymous.
Result<std::unique_ptr<Memory>> Map(int64_t bytes, Descriptor fd, OnUnmap on_unmap) {
  const int flags = fd.get() < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* const base =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, flags, fd.get(), 0);
  if (base == MAP_FAILED) {
    return AQUA_ERROR(AQUA_EXHAUSTED, "cannot map %lld bytes: %s", static_cast<long long>(bytes),
                      std::strerror(errno));
  }
  auto memory = std::make_unique<MappedMemory>(base, bytes, std::move(fd), on_unmap);
  AQUA_RETURN_IF_ERROR(Populate(base, bytes));
  return std::unique_ptr<Memory>(std::move(memory));
}

// Of a fixed size, and all there: nobody who maps it meets a hole or a shorter file (SIGBUS).
Result<Descriptor> MakeSharedFile(int64_t bytes) {
  Descriptor fd(memfd_create("aqua", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd.get() < 0) {
    return AQUA_ERROR(AQUA_UNAVAILABLE, "memfd_create: %s", std::strerror(errno));
  }
  if (fallocate(fd.get(), 0, 0, bytes) != 0) {
    return AQUA_ERROR(AQUA_EXHAUSTED, "cannot allocate %lld bytes of shared memory: %s",
                      static_cast<long long>(bytes), std::strerror(errno));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) {
    return AQUA_ERROR(AQUA_UNAVAILABLE, "cannot seal shared memory: %s", std::strerror(errno));
  }
  return fd;
}

Status CheckSharedFile(int fd, int64_t bytes) {
  struct stat file = {};
  if (fstat(fd, &file) != 0) {
    return AQUA_ERROR(AQUA_INVALID, "descriptor %d: %s", fd, std::strerror(errno));
  }
  if (file.st_size != bytes) {
    return AQUA_ERROR(AQUA_INVALID, "shared memory of %lld bytes: expected %lld",
                      static_cast<long long>(file.st_size), static_cast<long long>(bytes));
  }
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return AQUA_ERROR(AQUA_INVALID,
                      "descriptor %d is not shared memory of a fixed size: expected one from "
                      "aqua_memory_export",
                      fd);
  }
  return {};
}

}  // namespace

const char* PlatformName() { return "cpu"; }

int CudaVersion() { return 0; }

Status CheckDevice(int device) {
  if (device == kHostDevice) return {};
  return AQUA_ERROR(AQUA_INVALID, "a part on device %d: the CPU library knows only -1, the host",
                    device);
}

Result<std::unique_ptr<Copier>> MakeCopier(int threads, const std::vector<int>& cores) {
  return ThreadCopier::Make(threads, cores);
}

Result<std::unique_ptr<Memory>> MakeMemory(int32_t kind, int64_t bytes, int /*device*/) {
  switch (kind) {
    case AQUA_MEMORY_HOST:
    case AQUA_MEMORY_DEVICE:
      AQUA_RETURN_IF_ERROR(CheckAvailable(bytes));
      return Map(bytes, Descriptor(-1), OnUnmap::kNothing);
    case AQUA_MEMORY_SHARED: {
      AQUA_RETURN_IF_ERROR(CheckAvailable(bytes));
      Result<Descriptor> fd = MakeSharedFile(bytes);
      AQUA_RETURN_IF_ERROR(fd.status());
      return Map(bytes, std::move(fd).value(), OnUnmap::kScrub);
    }
    default:
      return AQUA_ERROR(AQUA_INVALID, "memory kind %d: expected 1 (host), 2 (shared) or 3 (device)",
                        kind);
  }
}

Result<std::unique_ptr<Memory>> ImportMemory(int32_t kind, int fd, int64_t bytes, int /*device*/) {
  if (kind != AQUA_MEMORY_SHARED) {
    return AQUA_ERROR(AQUA_INVALID, "import of memory kind %d: expected 2 (shared)", kind);
  }
  AQUA_RETURN_IF_ERROR(CheckSharedFile(fd, bytes));
  Descriptor own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (own.get() < 0) {
    return AQUA_ERROR(AQUA_UNAVAILABLE, "cannot duplicate a descriptor: %s", std::strerror(errno));
  }
  return Map(bytes, std::move(own), OnUnmap::kNothing);
}

Status ReadBytes(const Part& part, int64_t offset, int64_t bytes, void* into) {
  std::memcpy(into, part.base + offset, static_cast<size_t>(bytes));
  return {};
}

Status WriteBytes(const Part& part, int64_t offset, int64_t bytes, const void* from) {
  std::memcpy(part.base + offset, from, static_cast<size_t>(bytes));
  return {};
}

Status ZeroBytes(const Part& part, int64_t offset, int64_t bytes) {
  std::memset(part.base + offset, 0, static_cast<size_t>(bytes));
  return {};
}

}  // namespace aqua
