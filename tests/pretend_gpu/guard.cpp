// What torch's C++ asks of a device: the current device and stream of each thread, events, pinned memory.
//
// A CPU build of torch has places for a CUDA backend, but none in them. With these in their place autograd starts its
// thread for the device, lets streams wait for each other, and calls hooks there. Nothing is computed here: streams and
// events are numbers, and what happens to them is told to the Listener, which keeps the clocks.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>

namespace pretend {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;

constexpr DeviceIndex kNumDevices = 2;

// As in CUDA: of each thread, and 0 in a new one.
struct Current {
  DeviceIndex device = 0;
  std::array<int64_t, kNumDevices> streams{};
};
thread_local Current current;

struct Listener {
  void (*record)(int64_t event, int device, int64_t stream);
  void (*block)(int64_t event, int device, int64_t stream);
  int (*capturing)(int device, int64_t stream);
  void (*pinned)(int64_t address, int64_t num_bytes);
};
Listener listener{};

Device device_at(DeviceIndex index) {
  return {c10::kCUDA, index < 0 ? current.device : index};
}

Stream stream_of(Device device) {
  const Device there = device_at(device.index());
  const int64_t id = current.streams.at(there.index());
  return id == 0 ? Stream(Stream::DEFAULT, there) : Stream(Stream::UNSAFE, there, id);
}

void enter(DeviceIndex index) {
  if (index >= 0) current.device = index;
}

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::kCUDA; }
  Device getDevice() const override { return device_at(-1); }
  Device exchangeDevice(Device wanted) const override {
    const Device before = device_at(-1);
    enter(wanted.index());
    return before;
  }
  void setDevice(Device wanted) const override { enter(wanted.index()); }
  void uncheckedSetDevice(Device wanted) const noexcept override { enter(wanted.index()); }
  DeviceIndex deviceCount() const noexcept override { return kNumDevices; }

  Stream getStream(Device device) const override { return stream_of(device); }
  Stream getDefaultStream(Device device) const override { return Stream(Stream::DEFAULT, device_at(device.index())); }
  Stream exchangeStream(Stream wanted) const override {
    const Stream before = stream_of(wanted.device());
    current.streams.at(wanted.device_index()) = wanted.id();
    return before;
  }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  bool isStreamCapturing(const Stream& stream) const override {
    return listener.capturing != nullptr && listener.capturing(stream.device_index(), stream.id()) != 0;
  }

  void record(void** event, const Stream& stream, DeviceIndex, c10::EventFlag) const override {
    static std::atomic<int64_t> next{1};
    if (*event == nullptr) *event = reinterpret_cast<void*>(next++);
    if (listener.record != nullptr) listener.record(reinterpret_cast<int64_t>(*event), stream.device_index(), stream.id());
  }
  void block(void* event, const Stream& stream) const override {
    if (event != nullptr && listener.block != nullptr)
      listener.block(reinterpret_cast<int64_t>(event), stream.device_index(), stream.id());
  }
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, DeviceIndex) const noexcept override {}
};

c10::impl::DeviceGuardImplRegistrar guard_registrar(c10::kCUDA, new Guard());

// Page-locked memory is ordinary memory of which the addresses are known.
class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t num_bytes) override {
    void* address = nullptr;
    if (posix_memalign(&address, 64, num_bytes == 0 ? 64 : num_bytes) != 0) throw std::bad_alloc();
    {
      std::lock_guard<std::mutex> held(lock_);
      ends_[static_cast<const char*>(address)] = static_cast<const char*>(address) + num_bytes;
    }
    if (listener.pinned != nullptr) listener.pinned(reinterpret_cast<int64_t>(address), static_cast<int64_t>(num_bytes));
    return {address, address, &PinnedMemory::release, Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &PinnedMemory::release; }
  void copy_data(void* to, const void* from, size_t num_bytes) const override { default_copy_data(to, from, num_bytes); }

  static bool holds(const void* data) {
    std::lock_guard<std::mutex> held(lock_);
    const auto* address = static_cast<const char*>(data);
    const auto after = ends_.upper_bound(address);
    if (after == ends_.begin()) return false;
    const auto& [begin, end] = *std::prev(after);
    return address == begin || address < end;
  }

 private:
  static void release(void* address) {
    {
      std::lock_guard<std::mutex> held(lock_);
      ends_.erase(static_cast<const char*>(address));
    }
    std::free(address);
  }
  inline static std::mutex lock_;
  inline static std::map<const char*, const char*> ends_;
};

struct Hooks final : public at::CUDAHooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return kNumDevices; }
  DeviceIndex deviceCount() const override { return kNumDevices; }
  DeviceIndex current_device() const override { return current.device; }
  DeviceIndex getCurrentDevice() const override { return current.device; }
  void setCurrentDevice(DeviceIndex index) const override { enter(index); }
  DeviceIndex exchangeDevice(DeviceIndex index) const override {
    const DeviceIndex before = current.device;
    enter(index);
    return before;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override { return exchangeDevice(index); }

  bool isPinnedPtr(const void* data) const override { return PinnedMemory::holds(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static PinnedMemory memory;
    return &memory;
  }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    static const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(0);
    return generator;
  }
  at::Generator getNewGenerator(DeviceIndex) const override { return at::make_generator<at::CPUGeneratorImpl>(0); }
};

// torch asks its registry once, when it first wants to know of CUDA: this library must be there before.
const bool hooks_registered = [] {
  at::CUDAHooksRegistry()->Register(
      "CUDAHooks",
      [](at::CUDAHooksArgs) -> std::unique_ptr<at::CUDAHooksInterface> { return std::make_unique<Hooks>(); });
  return true;
}();

}  // namespace pretend

extern "C" {
void pretend_listen(const pretend::Listener* listener) { pretend::listener = *listener; }
int pretend_num_devices() { return pretend::kNumDevices; }
int pretend_get_device() { return pretend::current.device; }
void pretend_set_device(int device) { pretend::enter(static_cast<c10::DeviceIndex>(device)); }
int64_t pretend_get_stream(int device) { return pretend::current.streams.at(device); }
void pretend_set_stream(int device, int64_t stream) { pretend::current.streams.at(device) = stream; }
}
