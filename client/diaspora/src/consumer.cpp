#include "consumer.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "errors.hpp"
#include "event.hpp"
#include "interpreter.hpp"
#include "placement.hpp"

namespace mofka_diaspora {

namespace {

diaspora::Metadata metadataOf(std::string_view text)
{
    return diaspora::Metadata(text);
}

/// Makes an event of one that came: chooses what was not chosen yet, and brings its data to where the program wants it.
std::shared_ptr<Event> prepared(const std::shared_ptr<Topic>& topic, const Consumer::Functions& functions, const mofka::Event& event)
{
    if (!event)
        return std::make_shared<Event>();
    diaspora::Metadata metadata = metadataOf(event.metadataView());
    const bool isLate = functions.selector && functions.isInterpreted;

    mofka::DataDescriptor selection;
    diaspora::DataDescriptor selected;
    if (isLate) {
        const mofka::DataDescriptor whole = event.whole();
        interpreter::Locked locked;
        selected = functions.selector(metadata, diaspora::DataDescriptor(whole.location(), whole.size()));
        selection = chosen(whole, selected);
    } else if (functions.selector) {
        selected = descriptorOf(event.descriptor());
    }

    diaspora::DataView data;
    if (functions.allocator) {
        interpreter::Locked locked;
        data = functions.allocator(metadata, selected);
    } else if (isLate && selected.size() > 0) {
        auto* bytes = new std::vector<char>(selected.size());
        data = diaspora::DataView(bytes->data(), bytes->size(), nullptr, [bytes](void*) { delete bytes; });
    } else if (selected.size() > 0) {
        data = inPlace(event);
    }
    try {
        if (data.size() != selected.size())
            throw diaspora::Exception("DataBroker returned a Data object with a size different from the selected DataDescriptor size: " +
                                      std::to_string(data.size()) + " bytes in place of " + std::to_string(selected.size()));
        if (isLate && selected.size() > 0)
            fetch(event, selection, data);
        else if (functions.allocator)
            copy(event, data);
    } catch (...) {
        interpreter::Locked locked;
        data = diaspora::DataView();
        throw;
    }
    return std::make_shared<Event>(topic, event, std::move(metadata), std::move(data));
}

/// What a pull gives, once: an event, or an error.
class Pull {
  public:
    Pull(std::shared_ptr<Topic> topic, std::shared_ptr<const Consumer::Functions> functions, mofka::Future<mofka::Event> future)
        : m_topic(std::move(topic)), m_functions(std::move(functions)), m_future(std::move(future))
    {
    }

    std::optional<diaspora::Event> wait(int timeoutMs)
    {
        using std::chrono::steady_clock;
        interpreter::Unlocked unlocked;
        std::unique_lock lock(m_mutex, std::defer_lock);
        auto left = static_cast<std::int64_t>(timeoutMs);
        if (timeoutMs < 0) {
            lock.lock();
        } else {
            const auto end = steady_clock::now() + std::chrono::milliseconds(timeoutMs);
            if (!lock.try_lock_until(end))
                return std::nullopt;
            left = std::max<std::int64_t>(
                0, std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now() + std::chrono::microseconds(999)).count());
        }
        if (!m_isSettled) {
            auto event = translated([&] { return m_future.wait(left); });
            if (!event)
                return std::nullopt;
            settle(*event);
        }
        if (!m_failure.empty())
            throw diaspora::Exception(m_failure);
        return diaspora::Event(m_event);
    }

    bool completed() const
    {
        return m_isSettled || translated([&] { return m_future.completed(); });
    }

  private:
    /// Whatever the program's functions throw is the error of this event.
    void settle(const mofka::Event& event)
    {
        interpreter::tidy();
        try {
            m_event = translated([&] { return prepared(m_topic, *m_functions, event); });
        } catch (const std::exception& error) {
            m_failure = *error.what() ? error.what() : "a data selector or allocator failed and does not say why";
        } catch (...) {
            m_failure = "a data selector or allocator threw something that is no std::exception";
        }
        m_isSettled = true;
    }

    std::shared_ptr<Topic> m_topic;
    std::shared_ptr<const Consumer::Functions> m_functions;
    mofka::Future<mofka::Event> m_future;
    std::timed_mutex m_mutex;
    std::atomic<bool> m_isSettled{false};
    std::shared_ptr<Event> m_event;
    std::string m_failure;
};

/// Which selector this thread is in.
struct Inside {
    static thread_local const Selecting* of;
    const Selecting* before;

    explicit Inside(const Selecting* selecting) : before(std::exchange(of, selecting))
    {
    }
    ~Inside()
    {
        of = before;
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
};

thread_local const Selecting* Inside::of = nullptr;

/// Tasks of a processor in a pool: as many at a time as keep its threads at work.
class Tasks {
  public:
    explicit Tasks(std::size_t max) : m_max(max)
    {
    }

    /// Waits for room. False: no more are wanted.
    bool begin()
    {
        std::unique_lock lock(m_mutex);
        m_changed.wait(lock, [&] { return m_count < m_max || m_isStopped; });
        if (m_isStopped)
            return false;
        ++m_count;
        return true;
    }

    template <typename F>
    void run(F&& function)
    {
        std::exception_ptr failure;
        bool isStopped = false;
        try {
            function();
        } catch (const diaspora::StopEventProcessor&) {
            isStopped = true;
        } catch (...) {
            failure = std::current_exception();
        }
        end(isStopped, failure);
    }

    void end(bool isStopped, const std::exception_ptr& failure)
    {
        std::lock_guard lock(m_mutex);
        --m_count;
        m_isStopped = m_isStopped || isStopped || failure;
        if (failure && !m_failure)
            m_failure = failure;
        m_changed.notify_all();
    }

    bool isStopped()
    {
        std::lock_guard lock(m_mutex);
        return m_isStopped;
    }

    /// Waits for all of them; throws what the first one threw that failed.
    void finish()
    {
        std::unique_lock lock(m_mutex);
        m_changed.wait(lock, [&] { return m_count == 0; });
        if (m_failure)
            std::rethrow_exception(m_failure);
    }

  private:
    std::mutex m_mutex;
    std::condition_variable m_changed;
    std::size_t m_max;
    std::size_t m_count = 0;
    bool m_isStopped = false;
    std::exception_ptr m_failure;
};

/// Says as long as it lives that the consumer is processing.
class Processing {
  public:
    explicit Processing(std::atomic<bool>& flag) : m_flag(flag)
    {
        if (m_flag.exchange(true))
            throw diaspora::Exception("process() is at work on this consumer already, and cannot be called beside it");
    }
    ~Processing()
    {
        m_flag = false;
    }
    Processing(const Processing&) = delete;
    Processing& operator=(const Processing&) = delete;

  private:
    std::atomic<bool>& m_flag;
};

} // namespace

mofka::DataDescriptor Selecting::choose(const mofka::Metadata& metadata, const mofka::DataDescriptor& whole)
{
    const Inside inside(this);
    const std::shared_lock lock(m_mutex);
    if (m_isOver)
        throw diaspora::Exception("the consumer is gone");
    return chosen(whole, m_select(metadataOf(metadata.string()), diaspora::DataDescriptor(whole.location(), whole.size())));
}

void Selecting::end()
{
    m_isOver = true;
    if (Inside::of != this)
        const std::unique_lock lock(m_mutex);
}

Consumer::Consumer(std::shared_ptr<Topic> topic, std::string name, diaspora::BatchSize batchSize,
                   diaspora::MaxNumBatches maxNumBatches, std::shared_ptr<diaspora::ThreadPoolInterface> threadPool,
                   Functions functions, std::shared_ptr<Selecting> selecting, mofka::Consumer consumer)
    : m_topic(std::move(topic)), m_name(std::move(name)), m_batchSize(batchSize), m_maxNumBatches(maxNumBatches),
      m_threadPool(std::move(threadPool)), m_functions(std::make_shared<const Functions>(std::move(functions))),
      m_selecting(std::move(selecting)), m_consumer(std::move(consumer))
{
}

Consumer::~Consumer()
{
    interpreter::Unlocked unlocked;
    m_consumer = mofka::Consumer();
    if (m_selecting)
        m_selecting->end();
}

void Consumer::unsubscribe()
{
    interpreter::Unlocked unlocked;
    if (m_selecting)
        m_selecting->end();
    try {
        m_consumer.unsubscribe();
    } catch (const mofka::Exception&) {
        // A destructor calls it: a node that is gone is not told.
    }
}

diaspora::Future<std::optional<diaspora::Event>> Consumer::pull()
{
    auto pull = std::make_shared<Pull>(m_topic, m_functions, translated([&] { return m_consumer.pull(); }));
    return {[pull](int timeoutMs) { return pull->wait(timeoutMs); }, [pull] { return pull->completed(); }};
}

void Consumer::process(diaspora::EventProcessor processor, int timeoutMs, diaspora::NumEvents maxEvents,
                       std::shared_ptr<diaspora::ThreadPoolInterface> threadPool)
{
    // The processor may be an interpreter's, and runs on other threads.
    interpreter::Unlocked unlocked;
    Processing processing(m_isProcessing);
    const std::size_t threads = threadPool ? threadPool->threadCount().count : 0;
    Tasks tasks(2 * std::max<std::size_t>(1, threads));
    try {
        for (std::size_t handedOver = 0; handedOver < maxEvents.value && !tasks.isStopped(); ++handedOver) {
            std::optional<diaspora::Event> event = pull().wait(timeoutMs);
            if ((event && event->id() == diaspora::NoMoreEvents) || !tasks.begin())
                break;
            if (threads == 0) {
                tasks.run([&] { processor(event); });
                continue;
            }
            try {
                threadPool->pushWork([&tasks, &processor, event] { tasks.run([&] { processor(event); }); });
            } catch (...) {
                tasks.end(true, nullptr);
                throw;
            }
        }
    } catch (...) {
        const auto failure = std::current_exception();
        tasks.begin();
        tasks.end(true, failure);
    }
    tasks.finish();
}

} // namespace mofka_diaspora
