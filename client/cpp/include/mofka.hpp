// Client of Mofka for C++17, over the C interface (mofka.h): header only, link libmofka_c.
//
//     auto driver = mofka::Driver::New("mofka", {{"group_file", "mofka.json"}});   // or mofka::Driver("mofka.json")
//     auto topic = driver.openTopic("collisions");
//     auto pushed = topic.producer().push(R"({"energy": 42})", "the data");
//     uint64_t id = pushed.wait();
//     for (auto& event : topic.consumer("analysis", mofka::FullDataSelector())) event.acknowledge();
//
// Names and order of arguments are those of the original's C++ interface where it has the same things.
//
// - Handles (Driver, TopicHandle, Producer, Consumer, Event, Future, ThreadPool) are cheap to copy: copies share what is behind
//   them, and the last one ends it. A default-constructed one is empty; using it throws. An InPlace is one person's: it is moved.
// - Errors are mofka::Exception, with the code of mofka.h; InvalidMetadata for metadata that is not taken.
// - Any thread may use any handle. In a forked child every call throws, with code MOFKA_ERROR_FORKED.
// - Selectors, allocators and processors are callables. They run on threads of the library; what they throw becomes the error of
//   the event that they were called for.
#ifndef MOFKA_HPP
#define MOFKA_HPP

#include <mofka.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mofka {

using EventID = std::uint64_t;
/// The id of the event that says that no more come.
inline constexpr EventID NoMoreEvents = std::numeric_limits<EventID>::max();

/// What went wrong. `what()` says what was tried, with values.
class Exception : public std::runtime_error {
  public:
    Exception(mofka_status code, const std::string& message, std::string reason = "", bool mayBeStored = false)
        : std::runtime_error(message), m_code(code), m_reason(std::move(reason)), m_mayBeStored(mayBeStored)
    {
    }

    /// `MOFKA_ERROR_...`
    mofka_status code() const noexcept
    {
        return m_code;
    }

    /// The same as one word, or what the node answered: `no_space`, `topic_complete` ...
    const std::string& reason() const noexcept
    {
        return m_reason;
    }

    /// Whether the event that it is about may be stored all the same: only the answer is missing.
    bool mayBeStored() const noexcept
    {
        return m_mayBeStored;
    }

  private:
    mofka_status m_code;
    std::string m_reason;
    bool m_mayBeStored;
};

/// The metadata is not JSON, or the topic's validator does not take the event.
class InvalidMetadata : public Exception {
  public:
    using Exception::Exception;
};

/// Thrown by an event processor to end `Consumer::process`.
struct StopEventProcessor {};

namespace detail {

/// Throws what the last function of this thread said.
[[noreturn]] inline void fail(mofka_status status)
{
    std::string message = mofka_last_error_message();
    std::string reason = mofka_last_error_reason();
    bool stored = mofka_last_error_may_be_stored();
    if (status == MOFKA_ERROR_INVALID_METADATA)
        throw InvalidMetadata(status, message, std::move(reason), stored);
    throw Exception(status, message, std::move(reason), stored);
}

/// Throws for an error; gives what is none.
inline mofka_status check(mofka_status status)
{
    if (status < 0)
        fail(status);
    return status;
}

/// Takes a text that the library gave.
inline std::string take(char* text)
{
    std::unique_ptr<char, void (*)(char*)> owner(text, mofka_string_free);
    return text ? std::string(text) : std::string();
}

/// Takes a handle that the library gave.
template <typename T>
std::shared_ptr<T> own(T* handle, void (*free)(T*))
{
    return std::shared_ptr<T>(handle, free);
}

/// What an exception of the application becomes, inside of a callback.
template <typename F>
std::int32_t guarded(F&& function) noexcept
{
    try {
        return std::forward<F>(function)();
    } catch (const std::exception& error) {
        mofka_callback_fail(error.what());
    } catch (...) {
        mofka_callback_fail("an exception that is no std::exception");
    }
    return -1;
}

} // namespace detail

/// The version of the library.
inline std::string version()
{
    return mofka_version();
}

/// A JSON document, as text.
class Metadata {
  public:
    /// `{}`
    Metadata() : m_text("{}")
    {
    }

    /// JSON text, looked at when it is used.
    Metadata(std::string text) : m_text(std::move(text))
    {
    }

    Metadata(std::string_view text) : m_text(text)
    {
    }

    Metadata(const char* text) : m_text(text)
    {
    }

    /// The JSON text.
    const std::string& string() const noexcept
    {
        return m_text;
    }

    /// The same; for libraries of JSON: `nlohmann::json::parse(metadata.dump())`.
    const std::string& dump() const noexcept
    {
        return m_text;
    }

    bool operator==(const Metadata& other) const noexcept
    {
        return m_text == other.m_text;
    }

    bool operator!=(const Metadata& other) const noexcept
    {
        return m_text != other.m_text;
    }

  private:
    std::string m_text;
};

/// Bytes in memory that are read: as std::span<const std::byte> of C++20.
class ByteView {
  public:
    using value_type = const unsigned char;

    constexpr ByteView() noexcept = default;

    constexpr ByteView(const void* start, std::size_t bytes) noexcept : m_start(start), m_bytes(bytes)
    {
    }

    const unsigned char* data() const noexcept
    {
        return static_cast<const unsigned char*>(m_start);
    }

    constexpr std::size_t size() const noexcept
    {
        return m_bytes;
    }

    constexpr bool empty() const noexcept
    {
        return m_bytes == 0;
    }

    const unsigned char* begin() const noexcept
    {
        return data();
    }

    const unsigned char* end() const noexcept
    {
        return data() + m_bytes;
    }

    unsigned char operator[](std::size_t index) const noexcept
    {
        return data()[index];
    }

    std::string_view text() const noexcept
    {
        return {static_cast<const char*>(m_start), m_bytes};
    }

  private:
    const void* m_start = nullptr;
    std::size_t m_bytes = 0;
};

/// Data in memory of the application: any number of segments, and what is called when the last copy of the view is gone.
///
/// Without a free callback nobody keeps the memory: what is pushed is copied then, and what an allocator returns has to stay as
/// long as the event.
class DataView {
  public:
    using Context = void*;
    using FreeCallback = std::function<void(Context)>;

    struct Segment {
        void* ptr;
        std::size_t size;
    };

    DataView() = default;

    DataView(void* ptr, std::size_t size, Context context = nullptr, FreeCallback free = {})
        : DataView(std::vector<Segment>{Segment{ptr, size}}, context, std::move(free))
    {
    }

    /// To be read only: not for allocators.
    DataView(const void* ptr, std::size_t size, Context context = nullptr, FreeCallback free = {})
        : DataView(const_cast<void*>(ptr), size, context, std::move(free))
    {
    }

    DataView(std::vector<Segment> segments, Context context = nullptr, FreeCallback free = {})
        : m_segments(std::move(segments)), m_context(context)
    {
        if (free)
            m_owner = std::make_shared<Owner>(context, std::move(free));
    }

    /// Text, read only.
    DataView(std::string_view text) : DataView(static_cast<const void*>(text.data()), text.size())
    {
    }

    DataView(const char* text) : DataView(std::string_view(text))
    {
    }

    DataView(const std::string& text) : DataView(std::string_view(text))
    {
    }

    /// A view that keeps its bytes itself.
    template <typename T>
    static DataView Own(std::vector<T> values)
    {
        static_assert(std::is_trivially_copyable<T>::value, "its bytes have to be the values");
        auto kept = std::make_shared<std::vector<T>>(std::move(values));
        return DataView(static_cast<void*>(kept->data()), kept->size() * sizeof(T), nullptr,
                        [kept](Context) mutable { kept.reset(); });
    }

    static DataView Own(std::string text)
    {
        return Own(std::vector<char>(text.begin(), text.end()));
    }

    const std::vector<Segment>& segments() const noexcept
    {
        return m_segments;
    }

    /// Bytes of all segments.
    std::size_t size() const noexcept
    {
        std::size_t sum = 0;
        for (const Segment& segment : m_segments)
            sum += segment.size;
        return sum;
    }

    Context context() const noexcept
    {
        return m_context;
    }

    /// Whether somebody keeps the memory as long as a copy of the view lives.
    bool isOwned() const noexcept
    {
        return m_owner != nullptr;
    }

    /// Copies bytes from `offset` on to `into`; returns how many there were and fit.
    std::size_t read(void* into, std::size_t size, std::size_t offset = 0) const noexcept
    {
        return each(offset, size, [into](void* here, std::size_t done, std::size_t bytes) {
            std::memcpy(static_cast<char*>(into) + done, here, bytes);
        });
    }

    /// Copies `from` over the bytes from `offset` on; returns how many fit.
    std::size_t write(const void* from, std::size_t size, std::size_t offset = 0) const noexcept
    {
        return each(offset, size, [from](void* here, std::size_t done, std::size_t bytes) {
            std::memcpy(here, static_cast<const char*>(from) + done, bytes);
        });
    }

    /// All bytes, copied to one string.
    std::string toString() const
    {
        std::string text(size(), '\0');
        read(text.data(), text.size());
        return text;
    }

  private:
    struct Owner {
        Owner(Context context_, FreeCallback free_) : context(context_), free(std::move(free_))
        {
        }
        Owner(const Owner&) = delete;
        Owner& operator=(const Owner&) = delete;
        ~Owner()
        {
            free(context);
        }
        Context context;
        FreeCallback free;
    };

    template <typename F>
    std::size_t each(std::size_t offset, std::size_t size, F&& copy) const noexcept
    {
        std::size_t done = 0;
        for (const Segment& segment : m_segments) {
            std::size_t begin = offset < segment.size ? offset : segment.size;
            offset -= begin;
            std::size_t bytes = segment.size - begin;
            bytes = bytes < size - done ? bytes : size - done;
            if (bytes > 0)
                copy(static_cast<char*>(segment.ptr) + begin, done, bytes);
            done += bytes;
        }
        return done;
    }

    std::vector<Segment> m_segments;
    Context m_context = nullptr;
    std::shared_ptr<Owner> m_owner;
};

/// Which bytes of an event's data are meant. Views are relative to the descriptor that they are made of.
class DataDescriptor {
  public:
    using Segment = mofka_range;

    /// Nothing.
    DataDescriptor() = default;

    /// All of some data at a place that its storage understands.
    DataDescriptor(std::string_view location, std::uint64_t size)
    {
        mofka_descriptor* made = nullptr;
        detail::check(mofka_descriptor_create(location.data(), location.size(), size, &made));
        *this = DataDescriptor(made);
    }

    /// Nothing, by an older name.
    static DataDescriptor Null()
    {
        return {};
    }

    /// All of some data, by an older name.
    static DataDescriptor From(std::string_view location, std::uint64_t size)
    {
        return DataDescriptor(location, size);
    }

    /// Takes a descriptor of mofka.h.
    explicit DataDescriptor(mofka_descriptor* taken) : m_self(detail::own(taken, mofka_descriptor_free))
    {
    }

    std::uint64_t size() const noexcept
    {
        return mofka_descriptor_bytes(m_self.get());
    }

    /// Bytes of all the data, whatever is selected of it.
    std::uint64_t baseSize() const noexcept
    {
        return mofka_descriptor_base_bytes(m_self.get());
    }

    std::string_view location() const noexcept
    {
        mofka_slice location = mofka_descriptor_location(m_self.get());
        return {static_cast<const char*>(location.start), location.bytes};
    }

    /// Cut to what there is; empty when nothing is left.
    DataDescriptor makeSubView(std::uint64_t offset, std::uint64_t size) const
    {
        return view([&](auto* self, auto** made) { return mofka_descriptor_sub_view(self, offset, size, made); });
    }

    /// Throws when the last block ends beyond it.
    DataDescriptor makeStridedView(std::uint64_t offset, std::uint64_t numBlocks, std::uint64_t blockSize,
                                   std::uint64_t gapSize) const
    {
        return view([&](auto* self, auto** made) {
            return mofka_descriptor_strided_view(self, offset, numBlocks, blockSize, gapSize, made);
        });
    }

    /// Throws when they are not ascending and disjoint, or end beyond it.
    DataDescriptor makeUnstructuredView(const std::vector<Segment>& segments) const
    {
        return view([&](auto* self, auto** made) {
            return mofka_descriptor_unstructured_view(self, segments.data(), segments.size(), made);
        });
    }

    /// The ranges of the data that are selected, ascending.
    std::vector<Segment> flatten() const
    {
        if (!m_self)
            return {};
        std::size_t count = 0;
        detail::check(mofka_descriptor_flatten(m_self.get(), nullptr, 0, &count));
        std::vector<Segment> ranges(count);
        detail::check(mofka_descriptor_flatten(m_self.get(), ranges.data(), count, &count));
        return ranges;
    }

    /// The descriptor as bytes, for other processes.
    std::string serialize() const
    {
        const DataDescriptor& some = m_self ? *this : DataDescriptor("", 0);
        std::size_t bytes = 0;
        detail::check(mofka_descriptor_serialize(some.m_self.get(), nullptr, 0, &bytes));
        std::string into(bytes, '\0');
        detail::check(mofka_descriptor_serialize(some.m_self.get(), into.data(), bytes, &bytes));
        return into;
    }

    static DataDescriptor Deserialize(std::string_view serialized)
    {
        mofka_descriptor* read = nullptr;
        detail::check(mofka_descriptor_deserialize(serialized.data(), serialized.size(), &read));
        return DataDescriptor(read);
    }

    const mofka_descriptor* get() const noexcept
    {
        return m_self.get();
    }

  private:
    template <typename F>
    DataDescriptor view(F&& make) const
    {
        if (!m_self)
            return make_of(DataDescriptor("", 0), make);
        return make_of(*this, make);
    }

    template <typename F>
    static DataDescriptor make_of(const DataDescriptor& whole, F&& make)
    {
        mofka_descriptor* made = nullptr;
        detail::check(make(whole.m_self.get(), &made));
        return DataDescriptor(made);
    }

    std::shared_ptr<mofka_descriptor> m_self;
};

/// What a future gives: `wait()` as long as it takes, `wait(timeout)` an optional value. Waiting again gives the same again.
template <typename T>
class Future {
  public:
    Future() = default;

    Future(std::function<std::optional<T>(std::int64_t)> wait, std::function<bool()> completed)
        : m_wait(std::move(wait)), m_completed(std::move(completed))
    {
    }

    /// Whether there is anything to wait for.
    explicit operator bool() const noexcept
    {
        return static_cast<bool>(m_wait);
    }

    /// Waits as long as it takes. Throws what went wrong, the same each time.
    T wait() const
    {
        for (;;) {
            if (std::optional<T> value = wait(-1))
                return *std::move(value);
        }
    }

    /// Waits at most so many milliseconds; negative: as long as it takes; 0 only looks. Nothing: it did not happen yet, and nothing
    /// is lost by that.
    std::optional<T> wait(std::int64_t timeout_ms) const
    {
        if (!m_wait)
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT, "Calling Future::wait on an invalid future",
                            "invalid_argument");
        return m_wait(timeout_ms);
    }

    /// Whether waiting would return at once.
    bool completed() const
    {
        if (!m_completed)
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT, "Calling Future::completed on an invalid future",
                            "invalid_argument");
        return m_completed();
    }

  private:
    std::function<std::optional<T>(std::int64_t)> m_wait;
    std::function<bool()> m_completed;
};

/// What a flush or an acknowledgement gives.
struct Flushed {};
struct Acknowledged {};

namespace detail {

/// A future of a push, a flush or an acknowledgement.
template <typename T>
Future<T> future_of(mofka_future* taken)
{
    auto self = own(taken, mofka_future_free);
    auto wait = [self](std::int64_t timeout_ms) -> std::optional<T> {
        std::uint64_t value = 0;
        if (check(mofka_future_wait(self.get(), timeout_ms, &value)) == MOFKA_TIMEOUT)
            return std::nullopt;
        if constexpr (std::is_same<T, EventID>::value)
            return value;
        else
            return T{};
    };
    return Future<T>(std::move(wait), [self] { return mofka_future_completed(self.get()); });
}

} // namespace detail

/// How many threads; for `Driver::makeThreadPool`.
struct ThreadCount {
    std::size_t count;
    explicit constexpr ThreadCount(std::size_t count_) : count(count_)
    {
    }
};

/// Threads of the library, for producers, consumers and whatever the application likes.
class ThreadPool {
  public:
    ThreadPool() = default;

    /// 0: who pushes a task runs it.
    explicit ThreadPool(std::size_t count)
    {
        mofka_thread_pool* made = nullptr;
        detail::check(mofka_thread_pool_create(count, &made));
        m_self = detail::own(made, mofka_thread_pool_free);
    }

    explicit ThreadPool(ThreadCount count) : ThreadPool(count.count)
    {
    }

    /// Takes a pool of mofka.h.
    static ThreadPool Take(mofka_thread_pool* taken)
    {
        ThreadPool pool;
        pool.m_self = detail::own(taken, mofka_thread_pool_free);
        return pool;
    }

    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    std::size_t threadCount() const noexcept
    {
        return mofka_thread_pool_thread_count(m_self.get());
    }

    /// Tasks that no thread has taken yet.
    std::size_t size() const noexcept
    {
        return mofka_thread_pool_size(m_self.get());
    }

    /// Larger priorities come first. What a task throws ends the task, and nothing else.
    void pushWork(std::function<void()> function,
                  std::uint64_t priority = std::numeric_limits<std::uint64_t>::max()) const
    {
        auto task = std::make_unique<std::function<void()>>(std::move(function));
        auto run = [](void* context) {
            std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(context));
            try {
                (*mine)();
            } catch (...) {
            }
        };
        detail::check(mofka_thread_pool_push(m_self.get(), run, task.get(), priority));
        task.release();
    }

    mofka_thread_pool* get() const noexcept
    {
        return m_self.get();
    }

  private:
    std::shared_ptr<mofka_thread_pool> m_self;
};

/// Events in a batch.
struct BatchSize {
    std::uint32_t value;
    explicit constexpr BatchSize(std::uint32_t events) : value(events)
    {
    }
    /// Whatever has gathered when the connection is free.
    static constexpr BatchSize Adaptive()
    {
        return BatchSize(0);
    }
};

/// Batches of one partition that may wait; pushing blocks beyond it.
struct MaxNumBatches {
    std::size_t value;
    explicit constexpr MaxNumBatches(std::size_t batches) : value(batches)
    {
    }
};

/// How many events `Consumer::process` hands over.
struct NumEvents {
    std::uint64_t value;
    explicit constexpr NumEvents(std::uint64_t events) : value(events)
    {
    }
    static constexpr NumEvents Infinity()
    {
        return NumEvents(0);
    }
};

/// Whether a producer keeps the order of its events.
enum class Ordering : std::int32_t { Strict = MOFKA_ORDERING_STRICT, Loose = MOFKA_ORDERING_LOOSE };

/// What acknowledged means.
enum class Durability : std::int32_t {
    Default = MOFKA_DURABILITY_DEFAULT,
    Synced = MOFKA_DURABILITY_SYNCED,
    Written = MOFKA_DURABILITY_WRITTEN,
    Buffered = MOFKA_DURABILITY_BUFFERED
};

/// Where a partition keeps its events.
enum class PartitionKind : std::int32_t { Log = MOFKA_PARTITION_DEFAULT, Memory = MOFKA_PARTITION_MEMORY };

/// Where a consumer begins.
struct Start {
    std::int32_t kind = MOFKA_START_CURSOR;
    std::uint64_t value = 0;

    static constexpr Start Cursor()
    {
        return {};
    }
    static constexpr Start First()
    {
        return {MOFKA_START_FIRST, 0};
    }
    static constexpr Start Last()
    {
        return {MOFKA_START_LAST, 0};
    }
    static constexpr Start Id(EventID id)
    {
        return {MOFKA_START_ID, id};
    }
    /// Unix time in microseconds.
    static constexpr Start Time(std::uint64_t us)
    {
        return {MOFKA_START_TIME, us};
    }
};

/// Which events a consumer wants: an event pattern, JSON.
struct Filter {
    std::string pattern;
    explicit Filter(std::string json) : pattern(std::move(json))
    {
    }
};

/// A partition and where it is: JSON.
using PartitionInfo = Metadata;

/// Reads the data of one event in pieces.
class DataReader {
  public:
    explicit DataReader(mofka_reader* taken) : m_self(detail::own(taken, mofka_reader_free))
    {
    }

    std::uint64_t size() const noexcept
    {
        return mofka_reader_bytes(m_self.get());
    }

    /// Returns how many bytes came: fewer than there is room for only at the end, and where those behind them could not be read, as the
    /// next call will say unless they can then.
    std::size_t read(void* into, std::size_t size) const
    {
        std::size_t bytes = 0;
        mofka_status status = mofka_reader_read(m_self.get(), into, size, &bytes);
        if (bytes == 0)
            detail::check(status);
        return bytes;
    }

    void seek(std::uint64_t offset) const
    {
        detail::check(mofka_reader_seek(m_self.get(), offset));
    }

  private:
    std::shared_ptr<mofka_reader> m_self;
};

/// Writes the data of one event as it comes. It exists when `finish` returned.
class DataWriter {
  public:
    explicit DataWriter(mofka_writer* taken) : m_self(detail::own(taken, mofka_writer_free))
    {
    }

    void write(const void* from, std::size_t size) const
    {
        detail::check(mofka_writer_write(m_self.get(), from, size));
    }

    void write(std::string_view bytes) const
    {
        write(bytes.data(), bytes.size());
    }

    std::uint64_t size() const noexcept
    {
        return mofka_writer_bytes(m_self.get());
    }

    /// Waits until the event is as durable as asked.
    EventID finish() const
    {
        EventID id = 0;
        detail::check(mofka_writer_finish(m_self.get(), &id));
        return id;
    }

  private:
    std::shared_ptr<mofka_writer> m_self;
};

/// Room for the data of one event: filled there, in memory that the node shares where that is possible, and then committed. Destroyed
/// without that, it is as if it had never been. It can be moved, and not copied; it keeps its producer until it is committed.
class InPlace {
  public:
    /// Nothing; using it throws.
    InPlace() = default;

    /// Takes a claim of mofka.h. `producer` may be empty.
    explicit InPlace(mofka_in_place* taken, std::shared_ptr<mofka_producer> producer = nullptr)
        : m_producer(std::move(producer)), m_self(taken, mofka_in_place_free)
    {
    }

    InPlace(InPlace&&) noexcept = default;

    InPlace& operator=(InPlace&& other) noexcept
    {
        // The claim first: its producer may end with it.
        m_self = std::move(other.m_self);
        m_producer = std::move(other.m_producer);
        return *this;
    }

    /// Whether there is room: not when it was committed or moved from.
    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    /// The first byte, at a multiple of 4096; for devices, too. Good for `size()` bytes until this is committed or destroyed. What is
    /// there at first may be left over from earlier events of this process.
    void* data() const noexcept
    {
        return mofka_in_place_data(m_self.get());
    }

    /// Bytes of data that the event will have.
    std::size_t size() const noexcept
    {
        return mofka_in_place_bytes(m_self.get());
    }

    /// Whether it lies in memory that the node shares.
    bool isShared() const noexcept
    {
        return mofka_in_place_is_shared(m_self.get());
    }

    /// Copies bytes into it, from byte `offset` on. In order from the first on, they are looked at while they are in the processor's
    /// caches; else, and when somebody asked for `data()`, all is read again when it is committed.
    void write(const void* from, std::size_t size, std::size_t offset = 0) const
    {
        detail::check(mofka_in_place_write(needed(), offset, from, size));
    }

    void write(std::string_view bytes) const
    {
        write(bytes.data(), bytes.size());
    }

    /// The event has only the first `size` bytes.
    void shorten(std::size_t size) const
    {
        detail::check(mofka_in_place_shorten(needed(), size));
    }

    /// Pushes the event. The room is used up then, also when this throws: nothing was queued in that case.
    Future<EventID> commit()
    {
        needed();
        InPlace spent = std::move(*this);
        mofka_future* future = nullptr;
        detail::check(mofka_in_place_commit(spent.get(), &future));
        return detail::future_of<EventID>(future);
    }

    mofka_in_place* get() const noexcept
    {
        return m_self.get();
    }

  private:
    mofka_in_place* needed() const
    {
        if (!m_self)
            throw Exception(MOFKA_ERROR_CLOSED, "this room was committed or moved from, or never claimed: claim some first",
                            "closed");
        return m_self.get();
    }

    // Before the claim, so that it ends after that.
    std::shared_ptr<mofka_producer> m_producer;
    std::unique_ptr<mofka_in_place, void (*)(mofka_in_place*)> m_self{nullptr, mofka_in_place_free};
};

/// Data of a stored event, whole or in part, to be pushed as the data of another event of the same node.
class DataRef {
  public:
    explicit DataRef(mofka_data_ref* taken) : m_self(detail::own(taken, mofka_data_ref_free))
    {
    }

    std::uint64_t size() const noexcept
    {
        return mofka_data_ref_bytes(m_self.get());
    }

    const mofka_data_ref* get() const noexcept
    {
        return m_self.get();
    }

  private:
    std::shared_ptr<mofka_data_ref> m_self;
};

/// An event that was pulled. Lives on its own. One whose id is NoMoreEvents has nothing else.
class Event {
  public:
    /// The one that says that no more come.
    Event() = default;

    /// Takes an event of mofka.h.
    explicit Event(mofka_event* taken) : m_self(detail::own(taken, mofka_event_free))
    {
    }

    /// Whether it is an event, and not the one that says that no more come.
    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    EventID id() const noexcept
    {
        return mofka_event_id(m_self.get());
    }

    /// The index of its partition in the topic.
    std::size_t partition() const noexcept
    {
        return mofka_event_partition(m_self.get());
    }

    std::uint64_t timestampUs() const noexcept
    {
        return mofka_event_timestamp_us(m_self.get());
    }

    /// A copy of its metadata.
    Metadata metadata() const
    {
        return m_self ? Metadata(metadataView()) : Metadata();
    }

    /// Its metadata where it is: as long as a copy of the event lives.
    std::string_view metadataView() const noexcept
    {
        mofka_slice metadata = mofka_event_metadata(m_self.get());
        return {static_cast<const char*>(metadata.start), metadata.bytes};
    }

    /// Its data where it is; the view keeps the event. With an allocator: the memory that it gave. To be read only, otherwise.
    DataView data() const
    {
        std::vector<DataView::Segment> segments;
        for (std::size_t i = 0; i < dataSegmentCount(); ++i) {
            ByteView segment = dataSegment(i);
            segments.push_back({const_cast<unsigned char*>(segment.data()), segment.size()});
        }
        return DataView(std::move(segments), nullptr, [self = m_self](void*) mutable { self.reset(); });
    }

    std::size_t dataSegmentCount() const noexcept
    {
        return mofka_event_data_segment_count(m_self.get());
    }

    /// As long as a copy of the event lives.
    ByteView dataSegment(std::size_t index) const noexcept
    {
        mofka_slice segment = mofka_event_data_segment(m_self.get(), index);
        return {segment.start, segment.bytes};
    }

    /// Bytes of all its data, whatever of it was selected.
    std::uint64_t storedSize() const noexcept
    {
        return mofka_event_stored_bytes(m_self.get());
    }

    /// What was selected of its data.
    DataDescriptor descriptor() const
    {
        return DataDescriptor(mofka_event_descriptor(m_self.get()));
    }

    /// Its data for another event to refer to: what was selected, and all of it when nothing was.
    DataRef dataRef() const
    {
        mofka_data_ref* reference = nullptr;
        detail::check(mofka_event_data_ref(m_self.get(), &reference));
        return DataRef(reference);
    }

    /// Whether its data is that of another event.
    bool isReference() const noexcept
    {
        return mofka_event_is_reference(m_self.get());
    }

    /// Opens its data at the node: what was selected, and all of it when nothing was.
    DataReader openData() const
    {
        mofka_reader* reader = nullptr;
        detail::check(mofka_event_open_data(m_self.get(), &reader));
        return DataReader(reader);
    }

    /// The descriptor of all of its data; nothing, of the one that says that no more come.
    DataDescriptor whole() const
    {
        return DataDescriptor(mofka_event_whole(m_self.get()));
    }

    /// Opens a view of `whole()` at the node, whatever was selected when it was pulled.
    DataReader openData(const DataDescriptor& view) const
    {
        const DataDescriptor given = view.get() ? view : DataDescriptor("", 0);
        mofka_reader* reader = nullptr;
        detail::check(mofka_event_open_view(m_self.get(), given.get(), &reader));
        return DataReader(reader);
    }

    /// This event and all before it in its partition are done with, durably.
    void acknowledge() const
    {
        needed();
        detail::check(mofka_event_acknowledge(m_self.get()));
    }

    /// The same without waiting.
    Future<Acknowledged> acknowledgeStart() const
    {
        needed();
        mofka_future* future = nullptr;
        detail::check(mofka_event_acknowledge_start(m_self.get(), &future));
        return detail::future_of<Acknowledged>(future);
    }

    const mofka_event* get() const noexcept
    {
        return m_self.get();
    }

  private:
    void needed() const
    {
        if (!m_self)
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT, "Cannot acknowledge \"NoMoreEvents\"", "invalid_argument");
    }

    std::shared_ptr<mofka_event> m_self;
};

/// Says which data of an event is wanted: the descriptor of all of it, a view of that, or an empty one.
using DataSelector = std::function<DataDescriptor(const Metadata&, const DataDescriptor&)>;
/// Says where the selected data is placed: segments whose sizes add up to the descriptor's.
using DataAllocator = std::function<DataView(const Metadata&, const DataDescriptor&)>;
/// What events are handed to; nothing: none came within the timeout.
using EventProcessor = std::function<void(const std::optional<Event>&)>;

/// What happened to partitions that a consumer reads.
enum class Assignment : std::int32_t { Assigned = MOFKA_ASSIGNED, Withdrawn = MOFKA_WITHDRAWN, Lost = MOFKA_LOST };
/// Is told which partitions a consumer reads, as that changes. What it throws is ignored.
using OnAssignment = std::function<void(Assignment, const std::vector<std::size_t>&)>;

/// All data of every event: the node sends it with the events.
struct FullDataSelector {};

/// The same views of the data of every event, each of what the one before leaves: only these bytes leave the node's device.
class DataViews {
  public:
    DataViews& sub(std::uint64_t offset, std::uint64_t bytes)
    {
        return add(R"({"sub":{"offset":)" + std::to_string(offset) + R"(,"bytes":)" + std::to_string(bytes) + "}}");
    }

    DataViews& strided(std::uint64_t offset, std::uint64_t numBlocks, std::uint64_t blockSize, std::uint64_t gapSize)
    {
        return add(R"({"strided":{"offset":)" + std::to_string(offset) + R"(,"block_count":)" +
                   std::to_string(numBlocks) + R"(,"block_bytes":)" + std::to_string(blockSize) +
                   R"(,"gap_bytes":)" + std::to_string(gapSize) + "}}");
    }

    DataViews& unstructured(const std::vector<DataDescriptor::Segment>& segments)
    {
        std::string list;
        for (const auto& segment : segments)
            list += (list.empty() ? "" : ",") + (R"({"offset":)" + std::to_string(segment.offset)) + R"(,"bytes":)" +
                    std::to_string(segment.bytes) + "}";
        return add(R"({"unstructured":[)" + list + "]}");
    }

    std::string json() const
    {
        return "[" + m_views + "]";
    }

  private:
    DataViews& add(const std::string& view)
    {
        m_views += (m_views.empty() ? "" : ",") + view;
        return *this;
    }

    std::string m_views;
};

/// An allocator that gives each event a buffer of its own.
struct ByteArrayAllocator {
    DataView operator()(const Metadata&, const DataDescriptor& selected) const
    {
        return DataView::Own(std::vector<char>(static_cast<std::size_t>(selected.size())));
    }
};

/// Everything that can be chosen of a producer. `TopicHandle::producer` also takes the parts in any order.
struct ProducerOptions {
    std::string name;
    BatchSize batchSize = BatchSize::Adaptive();
    MaxNumBatches maxNumBatches{2};
    std::uint64_t batchBytesMax = 0;
    std::size_t sharedBytesMin = 0;
    Ordering ordering = Ordering::Strict;
    ThreadPool threadPool;
    Durability durability = Durability::Default;
    std::int64_t deliveryTimeoutMs = 0;
    std::int64_t batchIdleTimeoutMs = 0;
    std::int64_t dropTimeoutMs = 0;

    void set(const char* value)
    {
        name = value;
    }
    void set(std::string value)
    {
        name = std::move(value);
    }
    void set(BatchSize value)
    {
        batchSize = value;
    }
    void set(MaxNumBatches value)
    {
        maxNumBatches = value;
    }
    void set(Ordering value)
    {
        ordering = value;
    }
    void set(ThreadPool value)
    {
        threadPool = std::move(value);
    }
    void set(Durability value)
    {
        durability = value;
    }
    void set(ProducerOptions value)
    {
        *this = std::move(value);
    }
};

/// Everything that can be chosen of a consumer. `TopicHandle::consumer` also takes the parts in any order.
struct ConsumerOptions {
    BatchSize batchSize = BatchSize::Adaptive();
    MaxNumBatches maxNumBatches{2};
    std::uint32_t batchBytesMax = 0;
    /// Indices of the partitions to read; empty: all.
    std::vector<std::size_t> targets;
    std::string filter;
    std::int32_t data = MOFKA_DATA_NONE;
    std::string dataViews;
    DataSelector dataSelector;
    DataAllocator dataAllocator;
    std::uint64_t dataBytesMax = 0;
    ThreadPool threadPool;
    OnAssignment onAssignment;
    Start start;

    void set(BatchSize value)
    {
        batchSize = value;
    }
    void set(MaxNumBatches value)
    {
        maxNumBatches = value;
    }
    void set(std::vector<std::size_t> value)
    {
        targets = std::move(value);
    }
    void set(Filter value)
    {
        filter = std::move(value.pattern);
    }
    void set(FullDataSelector)
    {
        data = MOFKA_DATA_ALL;
    }
    void set(const DataViews& value)
    {
        data = MOFKA_DATA_VIEWS;
        dataViews = value.json();
    }
    void set(ThreadPool value)
    {
        threadPool = std::move(value);
    }
    void set(OnAssignment value)
    {
        onAssignment = std::move(value);
    }
    void set(Start value)
    {
        start = value;
    }
    void set(ConsumerOptions value)
    {
        *this = std::move(value);
    }
    /// A selector or an allocator, by what it returns.
    template <typename F, typename R = std::invoke_result_t<F&, const Metadata&, const DataDescriptor&>>
    void set(F function)
    {
        if constexpr (std::is_convertible<R, DataDescriptor>::value) {
            data = MOFKA_DATA_SELECTOR;
            dataSelector = std::move(function);
        } else {
            static_assert(std::is_convertible<R, DataView>::value, "it has to return a DataDescriptor or a DataView");
            dataAllocator = std::move(function);
        }
    }
};

/// What became of the events of a producer that was closed.
struct ProducerReport {
    std::uint64_t pushed, acknowledged, failed, mayBeStored;
    /// A JSON object: how many failed for which reason.
    Metadata failedByReason;
};

/// Pushes events into a topic.
class Producer {
  public:
    Producer() = default;

    explicit Producer(mofka_producer* taken, ProducerOptions options = {})
        : m_self(detail::own(taken, mofka_producer_free)),
          m_options(std::make_shared<const ProducerOptions>(std::move(options)))
    {
    }

    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    std::string name() const
    {
        const char* name = mofka_producer_name(m_self.get());
        return name ? name : "";
    }

    BatchSize batchSize() const
    {
        return m_options ? m_options->batchSize : BatchSize::Adaptive();
    }

    MaxNumBatches maxNumBatches() const
    {
        return m_options ? m_options->maxNumBatches : MaxNumBatches(2);
    }

    Ordering ordering() const
    {
        return m_options ? m_options->ordering : Ordering::Strict;
    }

    ThreadPool threadPool() const
    {
        return m_options ? m_options->threadPool : ThreadPool();
    }

    /// Takes an event. Data that has a free callback is kept until it is not needed; other data is copied: nothing has to be kept
    /// alive. Throws InvalidMetadata at once; what happens later is told by the future.
    Future<EventID> push(const Metadata& metadata, const DataView& data = {},
                         std::optional<std::size_t> partition = std::nullopt) const
    {
        std::vector<mofka_slice> segments;
        segments.reserve(data.segments().size());
        for (const DataView::Segment& segment : data.segments())
            segments.push_back({segment.ptr, segment.size});
        const std::string& text = metadata.string();
        std::int64_t wanted = partition ? static_cast<std::int64_t>(*partition) : -1;
        mofka_future* future = nullptr;
        if (data.isOwned()) {
            auto release = [](void* context) { delete static_cast<DataView*>(context); };
            detail::check(mofka_producer_push_owned(m_self.get(), text.data(), text.size(), segments.data(),
                                                    segments.size(), release, new DataView(data), wanted, &future));
        } else {
            detail::check(mofka_producer_push(m_self.get(), text.data(), text.size(), segments.data(),
                                              segments.size(), wanted, &future));
        }
        return detail::future_of<EventID>(future);
    }

    /// Takes an event whose data is that of another one.
    Future<EventID> push(const Metadata& metadata, const DataRef& data,
                         std::optional<std::size_t> partition = std::nullopt) const
    {
        const std::string& text = metadata.string();
        mofka_future* future = nullptr;
        detail::check(mofka_producer_push_ref(m_self.get(), text.data(), text.size(), data.get(),
                                              partition ? static_cast<std::int64_t>(*partition) : -1, &future));
        return detail::future_of<EventID>(future);
    }

    /// Claims room for the data of an event, to be filled where the node reads it if that is possible, and then committed: it has its
    /// place there among the events that are pushed. The topic's validator sees no data.
    InPlace claim(const Metadata& metadata, std::size_t size, std::optional<std::size_t> partition = std::nullopt) const
    {
        mofka_in_place* claimed = nullptr;
        const std::string& text = metadata.string();
        detail::check(mofka_producer_claim(m_self.get(), text.data(), text.size(), size,
                                           partition ? static_cast<std::int64_t>(*partition) : -1, &claimed));
        return InPlace(claimed, m_self);
    }

    /// Begins an event whose data is written in pieces.
    DataWriter pushStream(const Metadata& metadata, std::optional<std::size_t> partition = std::nullopt) const
    {
        mofka_writer* writer = nullptr;
        const std::string& text = metadata.string();
        detail::check(mofka_producer_push_stream(m_self.get(), text.data(), text.size(),
                                                 partition ? static_cast<std::int64_t>(*partition) : -1, &writer));
        return DataWriter(writer);
    }

    /// Sends what gathered; the future completes when all that was pushed before was acknowledged or failed.
    Future<Flushed> flush() const
    {
        mofka_future* future = nullptr;
        detail::check(mofka_producer_flush_start(m_self.get(), &future));
        return detail::future_of<Flushed>(future);
    }

    /// Sends what is left, waits, and counts. Later pushes throw.
    ProducerReport close() const
    {
        mofka_producer_report report = {};
        report.size = sizeof report;
        char* failures = nullptr;
        detail::check(mofka_producer_close(m_self.get(), &report, &failures));
        return {report.pushed, report.acknowledged, report.failed, report.may_be_stored,
                Metadata(detail::take(failures))};
    }

    /// Closes it, and says that it will push no more; gives how many producers said so, and how many the topic expects.
    std::pair<std::uint32_t, std::uint32_t> done() const
    {
        std::pair<std::uint32_t, std::uint32_t> counts;
        detail::check(mofka_producer_done(m_self.get(), &counts.first, &counts.second));
        return counts;
    }

    mofka_producer_stats stats() const
    {
        mofka_producer_stats stats = {};
        stats.size = sizeof stats;
        detail::check(mofka_producer_get_stats(m_self.get(), &stats));
        return stats;
    }

    mofka_producer* get() const noexcept
    {
        return m_self.get();
    }

  private:
    std::shared_ptr<mofka_producer> m_self;
    std::shared_ptr<const ProducerOptions> m_options;
};

/// What `Consumer::process` did.
struct ProcessReport {
    std::uint64_t handedOver, events, failed;
    /// `MOFKA_PROCESS_...`
    std::int32_t end;
    /// What the first call said that failed.
    std::string firstFailure;
};

/// Pulls events of a topic.
class Consumer {
  public:
    Consumer() = default;

    explicit Consumer(mofka_consumer* taken, ConsumerOptions options = {})
        : m_self(detail::own(taken, mofka_consumer_free)),
          m_options(std::make_shared<const ConsumerOptions>(std::move(options)))
    {
    }

    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    std::string name() const
    {
        const char* name = mofka_consumer_name(m_self.get());
        return name ? name : "";
    }

    BatchSize batchSize() const
    {
        return m_options ? m_options->batchSize : BatchSize::Adaptive();
    }

    MaxNumBatches maxNumBatches() const
    {
        return m_options ? m_options->maxNumBatches : MaxNumBatches(2);
    }

    ThreadPool threadPool() const
    {
        return m_options ? m_options->threadPool : ThreadPool();
    }

    DataSelector dataSelector() const
    {
        return m_options ? m_options->dataSelector : DataSelector();
    }

    DataAllocator dataAllocator() const
    {
        return m_options ? m_options->dataAllocator : DataAllocator();
    }

    /// The next event; one with id NoMoreEvents when the topic is complete and all of it was pulled. A future that is dropped leaves
    /// its event to the next pull.
    Future<Event> pull() const
    {
        mofka_event_future* future = nullptr;
        detail::check(mofka_consumer_pull(m_self.get(), &future));
        auto self = detail::own(future, mofka_event_future_free);
        auto wait = [self](std::int64_t timeout_ms) -> std::optional<Event> {
            mofka_event* event = nullptr;
            switch (detail::check(mofka_event_future_wait(self.get(), timeout_ms, &event))) {
            case MOFKA_TIMEOUT:
                return std::nullopt;
            case MOFKA_NO_MORE_EVENTS:
                return Event();
            default:
                return Event(event);
            }
        };
        return Future<Event>(std::move(wait), [self] { return mofka_event_future_completed(self.get()); });
    }

    /// Pulls events and hands each to `processor`, by all threads of the pool if there is one, until that throws
    /// StopEventProcessor, or no more come, or so many were handed over. Whatever else it throws is counted.
    ProcessReport process(const EventProcessor& processor, std::int64_t timeout_ms = 5000,
                          NumEvents maxEvents = NumEvents::Infinity(), const ThreadPool& threadPool = {}) const
    {
        mofka_process_options options = {};
        options.size = sizeof options;
        options.timeout_ms = timeout_ms;
        options.max_events = maxEvents.value;
        options.thread_pool = threadPool.get();
        mofka_process_report report = {};
        report.size = sizeof report;
        char* failure = nullptr;
        detail::check(mofka_consumer_process(m_self.get(), hand_over, const_cast<EventProcessor*>(&processor),
                                             &options, &report, &failure));
        return {report.handed_over, report.events, report.failed, report.end, detail::take(failure)};
    }

    /// Goes on elsewhere in one partition. The cursor stays where it is.
    void seek(std::size_t partition, Start to) const
    {
        detail::check(mofka_consumer_seek(m_self.get(), partition, to.kind, to.value));
    }

    /// Indices of the partitions that it reads now.
    std::vector<std::size_t> partitions() const
    {
        std::size_t count = 16;
        std::vector<std::size_t> indices;
        do {
            indices.resize(count);
            detail::check(mofka_consumer_partitions(m_self.get(), indices.data(), indices.size(), &count));
        } while (count > indices.size());
        indices.resize(count);
        return indices;
    }

    mofka_consumer_stats stats() const
    {
        mofka_consumer_stats stats = {};
        stats.size = sizeof stats;
        detail::check(mofka_consumer_get_stats(m_self.get(), &stats));
        return stats;
    }

    void unsubscribe() const
    {
        detail::check(mofka_consumer_close(m_self.get()));
    }

    /// Events as they come. The loop ends when there are no more, and after `timeout_ms` without one.
    class Iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Event;
        using difference_type = std::ptrdiff_t;
        using pointer = const Event*;
        using reference = const Event&;

        Iterator() = default;

        Iterator(std::shared_ptr<mofka_consumer> consumer, std::int64_t timeout_ms)
            : m_consumer(std::move(consumer)), m_timeout(timeout_ms)
        {
            ++*this;
        }

        const Event& operator*() const noexcept
        {
            return m_event;
        }

        const Event* operator->() const noexcept
        {
            return &m_event;
        }

        Iterator& operator++()
        {
            mofka_event* event = nullptr;
            m_event = Event();
            if (detail::check(mofka_consumer_next(m_consumer.get(), m_timeout, &event)) == MOFKA_OK)
                m_event = Event(event);
            else
                m_consumer.reset();
            return *this;
        }

        void operator++(int)
        {
            ++*this;
        }

        bool operator==(const Iterator& other) const noexcept
        {
            return m_consumer == other.m_consumer;
        }

        bool operator!=(const Iterator& other) const noexcept
        {
            return !(*this == other);
        }

      private:
        std::shared_ptr<mofka_consumer> m_consumer;
        std::int64_t m_timeout = 0;
        Event m_event;
    };

    Iterator begin(std::int64_t timeout_ms = 5000) const
    {
        return Iterator(m_self, timeout_ms);
    }

    Iterator end() const noexcept
    {
        return Iterator();
    }

    mofka_consumer* get() const noexcept
    {
        return m_self.get();
    }

  private:
    static std::int32_t hand_over(void* context, mofka_status status, const mofka_event* event) noexcept
    {
        return detail::guarded([&]() -> std::int32_t {
            const auto& processor = *static_cast<const EventProcessor*>(context);
            if (status < 0)
                detail::fail(status);
            try {
                if (event)
                    processor(Event(mofka_event_clone(event)));
                else
                    processor(std::nullopt);
            } catch (const StopEventProcessor&) {
                return 1;
            }
            return 0;
        });
    }

    std::shared_ptr<mofka_consumer> m_self;
    std::shared_ptr<const ConsumerOptions> m_options;
};

/// `consumer | processor`: all events to the processor, in the consumer's own pool.
inline ProcessReport operator|(Consumer&& consumer, const EventProcessor& processor)
{
    return consumer.process(processor, -1, NumEvents::Infinity(), consumer.threadPool());
}

namespace detail {

/// What a consumer's functions need, as long as they may be called.
struct Callbacks {
    DataSelector selector;
    DataAllocator allocator;
    OnAssignment assignment;

    static void assigned(void* context, std::int32_t change, const std::size_t* partitions, std::size_t count) noexcept
    {
        try {
            static_cast<const Callbacks*>(context)->assignment(static_cast<Assignment>(change),
                                                               {partitions, partitions + count});
        } catch (...) {
        }
    }

    static std::int32_t select(void* context, const char* metadata, std::size_t bytes, const mofka_descriptor* whole,
                               mofka_descriptor** selected) noexcept
    {
        return guarded([&]() -> std::int32_t {
            const auto& self = *static_cast<const Callbacks*>(context);
            DataDescriptor all(mofka_descriptor_clone(whole));
            DataDescriptor wanted = self.selector(Metadata(std::string_view(metadata, bytes)), all);
            *selected = mofka_descriptor_clone(wanted.get());
            return 0;
        });
    }

    static std::int32_t allocate(void* context, const char* metadata, std::size_t bytes,
                                 const mofka_descriptor* selected, mofka_allocation* allocation) noexcept
    {
        return guarded([&]() -> std::int32_t {
            const auto& self = *static_cast<const Callbacks*>(context);
            DataDescriptor wanted(mofka_descriptor_clone(selected));
            auto view =
                std::make_unique<DataView>(self.allocator(Metadata(std::string_view(metadata, bytes)), wanted));
            for (const DataView::Segment& segment : view->segments())
                check(mofka_allocation_add(allocation, segment.ptr, segment.size));
            auto release = [](void* kept) { delete static_cast<DataView*>(kept); };
            check(mofka_allocation_on_release(allocation, release, view.release()));
            return 0;
        });
    }
};

} // namespace detail

/// A topic that was opened.
class TopicHandle {
  public:
    TopicHandle() = default;

    explicit TopicHandle(mofka_topic* taken) : m_self(detail::own(taken, mofka_topic_free))
    {
    }

    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    std::string name() const
    {
        const char* name = mofka_topic_name(m_self.get());
        return name ? name : "";
    }

    /// All about it, JSON.
    Metadata info() const
    {
        char* json = nullptr;
        detail::check(mofka_topic_info(m_self.get(), &json));
        return Metadata(detail::take(json));
    }

    /// Its partitions, as of when it was opened or refreshed.
    std::vector<PartitionInfo> partitions() const
    {
        std::vector<PartitionInfo> all;
        for (std::size_t index = 0; index < mofka_topic_partition_count(m_self.get()); ++index) {
            char* json = nullptr;
            detail::check(mofka_topic_partition_info(m_self.get(), index, &json));
            all.emplace_back(detail::take(json));
        }
        return all;
    }

    Metadata partitionStatus(std::size_t partition) const
    {
        char* json = nullptr;
        detail::check(mofka_topic_partition_status(m_self.get(), partition, &json));
        return Metadata(detail::take(json));
    }

    void refresh() const
    {
        detail::check(mofka_topic_refresh(m_self.get()));
    }

    /// Makes a producer. Options by type, in any order: a name, BatchSize, MaxNumBatches, Ordering, ThreadPool, Durability,
    /// ProducerOptions.
    template <typename... Options>
    Producer producer(Options&&... options) const
    {
        ProducerOptions all;
        (all.set(std::forward<Options>(options)), ...);
        mofka_producer_options chosen = {};
        chosen.size = sizeof chosen;
        chosen.name = all.name.c_str();
        chosen.batch_size = all.batchSize.value;
        chosen.ordering = static_cast<std::int32_t>(all.ordering);
        // 0 is the least, and not the default, as in the original.
        chosen.max_num_batches = all.maxNumBatches.value == 0 ? 1 : all.maxNumBatches.value;
        chosen.batch_bytes_max = all.batchBytesMax;
        chosen.shared_bytes_min = all.sharedBytesMin;
        chosen.thread_pool = all.threadPool.get();
        chosen.durability = static_cast<std::int32_t>(all.durability);
        chosen.delivery_timeout_ms = all.deliveryTimeoutMs;
        chosen.batch_idle_timeout_ms = all.batchIdleTimeoutMs;
        chosen.drop_timeout_ms = all.dropTimeoutMs;
        mofka_producer* made = nullptr;
        detail::check(mofka_producer_create(m_self.get(), &chosen, &made));
        return Producer(made, std::move(all));
    }

    /// Makes a consumer and subscribes it. Options by type, in any order: BatchSize, MaxNumBatches, ThreadPool, a selector,
    /// FullDataSelector or DataViews, an allocator, a vector of targets, Filter, Start, ConsumerOptions.
    template <typename... Options>
    Consumer consumer(const std::string& name, Options&&... options) const
    {
        ConsumerOptions all;
        (all.set(std::forward<Options>(options)), ...);
        mofka_consumer_options chosen = {};
        chosen.size = sizeof chosen;
        chosen.batch_size = all.batchSize.value;
        chosen.batch_bytes_max = all.batchBytesMax;
        chosen.max_num_batches = all.maxNumBatches.value == 0 ? 1 : all.maxNumBatches.value;
        chosen.targets = all.targets.data();
        chosen.target_count = all.targets.size();
        chosen.filter = all.filter.empty() ? nullptr : all.filter.c_str();
        chosen.data = all.dataSelector && all.data == MOFKA_DATA_NONE ? MOFKA_DATA_SELECTOR : all.data;
        chosen.start = all.start.kind;
        chosen.start_value = all.start.value;
        chosen.data_views = all.dataViews.c_str();
        chosen.data_bytes_max = all.dataBytesMax;
        chosen.thread_pool = all.threadPool.get();
        if (all.dataSelector || all.dataAllocator || all.onAssignment) {
            auto* callbacks = new detail::Callbacks{all.dataSelector, all.dataAllocator, all.onAssignment};
            chosen.on_assignment = all.onAssignment ? detail::Callbacks::assigned : nullptr;
            chosen.on_assignment_context = callbacks;
            chosen.data_selector = all.dataSelector ? detail::Callbacks::select : nullptr;
            chosen.data_selector_context = callbacks;
            chosen.data_allocator = all.dataAllocator ? detail::Callbacks::allocate : nullptr;
            chosen.data_allocator_context = callbacks;
            chosen.release = [](void* context) { delete static_cast<detail::Callbacks*>(context); };
            chosen.release_context = callbacks;
        }
        mofka_consumer* made = nullptr;
        detail::check(mofka_consumer_create(m_self.get(), name.c_str(), &chosen, &made));
        return Consumer(made, std::move(all));
    }

    /// It takes no more events, and consumers learn when they have all.
    void markAsComplete() const
    {
        detail::check(mofka_topic_mark_complete(m_self.get(), -1));
    }

    void markPartitionAsComplete(std::size_t partition) const
    {
        detail::check(mofka_topic_mark_complete(m_self.get(), static_cast<std::int64_t>(partition)));
    }

    void setRetention(const Metadata& retention) const
    {
        detail::check(mofka_topic_set_retention(m_self.get(), retention.string().c_str()));
    }

    /// Returns when all that was acknowledged before is durable.
    void sync() const
    {
        detail::check(mofka_topic_sync(m_self.get()));
    }

    /// Moves a consumer's cursor; gives the next event that it will get.
    EventID seek(const std::string& consumer, std::size_t partition, Start to) const
    {
        EventID next = 0;
        detail::check(mofka_topic_seek(m_self.get(), consumer.c_str(), partition, to.kind, to.value, &next));
        return next;
    }

    /// Throws when the topic's validator, partition selector or serializer cannot work in this process.
    void checkComponents() const
    {
        detail::check(mofka_topic_check_components(m_self.get()));
    }

    mofka_topic* get() const noexcept
    {
        return m_self.get();
    }

  private:
    std::shared_ptr<mofka_topic> m_self;
};

/// What a new topic is like.
struct TopicOptions {
    Durability durability = Durability::Default;
    /// Partitions to make at once; 0: they are added later.
    std::uint32_t partitions = 1;
    PartitionKind partitionKind = PartitionKind::Log;
    std::uint32_t producersExpected = 0;
    /// JSON; empty: the default.
    std::string partitionConfig, validator, partitionSelector, serializer, retention;
};

/// What a partition to be added is like.
struct PartitionOptions {
    std::uint32_t rank = 0;
    std::optional<std::uint32_t> shard;
    PartitionKind kind = PartitionKind::Log;
    std::string config;
};

/// How to connect.
struct DriverOptions {
    std::string groupFile;
    /// Addresses of one node, instead of a group file.
    std::vector<std::string> addresses;
    std::string clientName;
    /// Directories of libraries with components; nothing: as the environment says.
    std::optional<std::string> libraryPath;
    /// Nodes on this machine are not talked to through shared memory.
    bool socketsOnly = false;
    std::uint32_t ringSlots = 0;
    std::uint64_t ringBytes = 0;
    std::int64_t connectTimeoutMs = 0;
    std::int64_t reconnectTimeoutMs = 0;
    std::int64_t fetchTimeoutMs = 0;
};

/// The way to the nodes.
class Driver {
  public:
    Driver() = default;

    /// The nodes of this group file (`mofka.json`).
    explicit Driver(const std::string& groupFile)
    {
        DriverOptions options;
        options.groupFile = groupFile;
        connect(options);
    }

    explicit Driver(const DriverOptions& options)
    {
        connect(options);
    }

    /// As the original has it: `Driver::New("mofka", {{"group_file", "mofka.json"}})`. Others of its options (`margo`) mean nothing
    /// here.
    static Driver New(std::string_view type, std::initializer_list<std::pair<std::string_view, std::string_view>> options)
    {
        if (type != "mofka")
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT,
                            "there is no driver \"" + std::string(type) + "\" here: only \"mofka\"",
                            "invalid_argument");
        DriverOptions chosen;
        for (const auto& option : options)
            if (option.first == "group_file")
                chosen.groupFile = std::string(option.second);
        return Driver(chosen);
    }

    explicit operator bool() const noexcept
    {
        return m_self != nullptr;
    }

    std::size_t numServers() const noexcept
    {
        return mofka_driver_node_count(m_self.get());
    }

    TopicHandle createTopic(const std::string& name, const TopicOptions& options = {}) const
    {
        auto text = [](const std::string& json) { return json.empty() ? nullptr : json.c_str(); };
        mofka_topic_options chosen = {};
        chosen.size = sizeof chosen;
        chosen.durability = static_cast<std::int32_t>(options.durability);
        chosen.partitions = options.partitions == 0 ? -1 : static_cast<std::int32_t>(options.partitions);
        chosen.partition_kind = static_cast<std::int32_t>(options.partitionKind);
        chosen.producers_expected = options.producersExpected;
        chosen.partition_config = text(options.partitionConfig);
        chosen.validator = text(options.validator);
        chosen.partition_selector = text(options.partitionSelector);
        chosen.serializer = text(options.serializer);
        chosen.retention = text(options.retention);
        mofka_topic* topic = nullptr;
        detail::check(mofka_topic_create(m_self.get(), name.c_str(), &chosen, &topic));
        return TopicHandle(topic);
    }

    TopicHandle openTopic(const std::string& name) const
    {
        mofka_topic* topic = nullptr;
        detail::check(mofka_topic_open(m_self.get(), name.c_str(), &topic));
        return TopicHandle(topic);
    }

    bool topicExists(const std::string& name) const
    {
        bool exists = false;
        detail::check(mofka_driver_topic_exists(m_self.get(), name.c_str(), &exists));
        return exists;
    }

    /// All topics: a JSON array.
    Metadata listTopics() const
    {
        char* json = nullptr;
        detail::check(mofka_driver_list_topics(m_self.get(), &json));
        return Metadata(detail::take(json));
    }

    /// Throws when events of other topics refer to its data, unless `force` is set.
    void deleteTopic(const std::string& name, bool force = false) const
    {
        detail::check(mofka_driver_delete_topic(m_self.get(), name.c_str(), force));
    }

    PartitionInfo addPartition(const std::string& topic, const PartitionOptions& options = {}) const
    {
        mofka_partition_options chosen = {};
        chosen.size = sizeof chosen;
        chosen.rank = options.rank;
        chosen.kind = static_cast<std::int32_t>(options.kind);
        chosen.has_shard = options.shard.has_value();
        chosen.shard = options.shard.value_or(0);
        chosen.config = options.config.empty() ? nullptr : options.config.c_str();
        char* json = nullptr;
        detail::check(mofka_driver_add_partition(m_self.get(), topic.c_str(), &chosen, &json));
        return PartitionInfo(detail::take(json));
    }

    PartitionInfo addDefaultPartition(const std::string& topic, std::uint32_t rank) const
    {
        PartitionOptions options;
        options.rank = rank;
        return addPartition(topic, options);
    }

    PartitionInfo addMemoryPartition(const std::string& topic, std::uint32_t rank) const
    {
        PartitionOptions options;
        options.rank = rank;
        options.kind = PartitionKind::Memory;
        return addPartition(topic, options);
    }

    /// The consumers of a topic with their cursors: a JSON array.
    Metadata listConsumers(const std::string& topic) const
    {
        char* json = nullptr;
        detail::check(mofka_driver_list_consumers(m_self.get(), topic.c_str(), &json));
        return Metadata(detail::take(json));
    }

    Metadata nodeStatus(std::size_t rank) const
    {
        char* json = nullptr;
        detail::check(mofka_driver_node_status(m_self.get(), rank, &json));
        return Metadata(detail::take(json));
    }

    void shutdownNode(std::size_t rank) const
    {
        detail::check(mofka_driver_shutdown_node(m_self.get(), rank));
    }

    /// As many threads as the process may use cores.
    ThreadPool defaultThreadPool() const
    {
        mofka_thread_pool* pool = nullptr;
        detail::check(mofka_driver_default_thread_pool(m_self.get(), &pool));
        return ThreadPool::Take(pool);
    }

    ThreadPool makeThreadPool(ThreadCount count) const
    {
        return ThreadPool(count.count);
    }

    mofka_driver* get() const noexcept
    {
        return m_self.get();
    }

  private:
    void connect(const DriverOptions& options)
    {
        std::vector<const char*> addresses;
        for (const std::string& address : options.addresses)
            addresses.push_back(address.c_str());
        mofka_driver_options chosen = {};
        chosen.size = sizeof chosen;
        chosen.addresses = addresses.data();
        chosen.address_count = addresses.size();
        chosen.client_name = options.clientName.empty() ? nullptr : options.clientName.c_str();
        chosen.library_path = options.libraryPath ? options.libraryPath->c_str() : nullptr;
        chosen.sockets_only = options.socketsOnly;
        chosen.ring_slots = options.ringSlots;
        chosen.ring_bytes = options.ringBytes;
        chosen.connect_timeout_ms = options.connectTimeoutMs;
        chosen.reconnect_timeout_ms = options.reconnectTimeoutMs;
        chosen.fetch_timeout_ms = options.fetchTimeoutMs;
        mofka_driver* made = nullptr;
        detail::check(mofka_driver_connect(options.groupFile.empty() ? nullptr : options.groupFile.c_str(), &chosen,
                                           &made));
        m_self = detail::own(made, mofka_driver_free);
    }

    std::shared_ptr<mofka_driver> m_self;
};

} // namespace mofka

#endif
