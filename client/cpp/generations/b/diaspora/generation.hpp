// Generation B: the C++ interface of 2025's walk-through (Mofka 0.7, first form of the Diaspora Stream API), over mofka.hpp.
//
// For programs of that time as they are: `wait()` without a timeout gives the value, `flush()` returns when all is acknowledged, and a topic is
// marked complete. They need nlohmann/json.hpp, as they did. Programs for later versions of that API have a driver (docs/DIASPORA.md).
#ifndef MOFKA_GENERATION_B_HPP
#define MOFKA_GENERATION_B_HPP

#include <mofka.hpp>
#include <nlohmann/json.hpp>

namespace diaspora {

using mofka::BatchSize;
using mofka::DataDescriptor;
using mofka::DataView;
using mofka::EventID;
using mofka::Exception;
using mofka::Future;
using mofka::InvalidMetadata;
using mofka::MaxNumBatches;
using mofka::NoMoreEvents;
using mofka::NumEvents;
using mofka::Ordering;
using mofka::StopEventProcessor;
using mofka::ThreadCount;
using mofka::ThreadPool;

/// A JSON value.
class Metadata {
  public:
    /// Text that is parsed, or that is the value. Throws when it is no JSON.
    Metadata(std::string_view text = "{}", bool parse = true)
    {
        try {
            m_content = parse ? nlohmann::json::parse(text) : nlohmann::json(text);
        } catch (const nlohmann::json::exception& error) {
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT, std::string("Could not parse JSON: ") + error.what(), "invalid_argument");
        }
    }

    Metadata(const std::string& text, bool parse = true) : Metadata(std::string_view(text), parse)
    {
    }

    Metadata(const char* text, bool parse = true) : Metadata(std::string_view(text), parse)
    {
    }

    Metadata(nlohmann::json content) : m_content(std::move(content))
    {
    }

    nlohmann::json& json()
    {
        return m_content;
    }

    const nlohmann::json& json() const
    {
        return m_content;
    }

    std::string dump() const
    {
        return m_content.dump();
    }

    /// The text of a JSON string, and the JSON text of everything else.
    std::string string() const
    {
        return m_content.is_string() ? m_content.get<std::string>() : m_content.dump();
    }

  private:
    nlohmann::json m_content;
};

using PartitionInfo = Metadata;
using DataSelector = std::function<DataDescriptor(const Metadata&, const DataDescriptor&)>;
using DataAllocator = std::function<DataView(const Metadata&, const DataDescriptor&)>;
using DataBroker = DataAllocator;

namespace detail {

/// A component of a topic: its document. It works in the client.
template <int Kind>
class Component {
  public:
    Component() = default;

    static Component FromMetadata(const Metadata& metadata)
    {
        Component made;
        made.m_document = metadata;
        return made;
    }

    /// Empty for the default one.
    const Metadata& metadata() const
    {
        return m_document;
    }

    std::string text() const
    {
        return m_document.json().empty() ? "" : m_document.dump();
    }

  private:
    Metadata m_document;
};

} // namespace detail

using Validator = detail::Component<0>;
using PartitionSelector = detail::Component<1>;
using Serializer = detail::Component<2>;

class TopicHandle;

/// An event that was pulled.
class Event {
  public:
    Event() = default;

    Event(mofka::Event event, mofka::TopicHandle topic) : m_event(std::move(event)), m_topic(std::move(topic))
    {
        if (!m_event)
            return;
        m_metadata = Metadata(m_event.metadataView());
        m_data = m_event.data();
    }

    const Metadata& metadata() const
    {
        return m_metadata;
    }

    const DataView& data() const
    {
        return m_data;
    }

    EventID id() const
    {
        return m_event.id();
    }

    PartitionInfo partition() const
    {
        return m_event ? PartitionInfo(m_topic.partitions().at(m_event.partition()).string()) : PartitionInfo();
    }

    void acknowledge() const
    {
        m_event.acknowledge();
    }

    explicit operator bool() const
    {
        return static_cast<bool>(m_event);
    }

  private:
    mofka::Event m_event;
    mofka::TopicHandle m_topic;
    Metadata m_metadata;
    DataView m_data;
};

using EventProcessor = std::function<void(const Event&)>;

class Producer {
  public:
    Producer() = default;

    Producer(mofka::Producer producer, mofka::TopicHandle topic) : m_producer(std::move(producer)), m_topic(std::move(topic))
    {
    }

    std::string name() const
    {
        return m_producer.name();
    }

    BatchSize batchSize() const
    {
        return m_producer.batchSize();
    }

    TopicHandle topic() const;

    /// Data without a free callback is copied.
    Future<EventID> push(const Metadata& metadata, const DataView& data = {}, std::optional<std::size_t> partition = std::nullopt) const
    {
        return m_producer.push(mofka::Metadata(metadata.dump()), data, partition);
    }

    /// Returns when all that was pushed is acknowledged, or failed.
    void flush() const
    {
        m_producer.flush().wait();
    }

    explicit operator bool() const
    {
        return static_cast<bool>(m_producer);
    }

  private:
    mofka::Producer m_producer;
    mofka::TopicHandle m_topic;
};

class Consumer {
  public:
    Consumer() = default;

    Consumer(mofka::Consumer consumer, mofka::TopicHandle topic) : m_consumer(std::move(consumer)), m_topic(std::move(topic))
    {
    }

    std::string name() const
    {
        return m_consumer.name();
    }

    BatchSize batchSize() const
    {
        return m_consumer.batchSize();
    }

    TopicHandle topic() const;

    /// The next event; one with id NoMoreEvents when the topic is complete and all of it was pulled.
    Future<Event> pull() const
    {
        auto pulled = m_consumer.pull();
        auto wait = [pulled, topic = m_topic](std::int64_t timeout_ms) -> std::optional<Event> {
            auto event = pulled.wait(timeout_ms);
            return event ? std::optional<Event>(Event(*std::move(event), topic)) : std::nullopt;
        };
        return Future<Event>(std::move(wait), [pulled] { return pulled.completed(); });
    }

    /// Hands events to `processor` until it throws StopEventProcessor, the topic is at its end, or so many were handed over.
    void process(EventProcessor processor, ThreadPool threadPool = {}, NumEvents maxEvents = NumEvents::Infinity()) const
    {
        auto each = [&](const std::optional<mofka::Event>& event) { processor(Event(event.value(), m_topic)); };
        m_consumer.process(each, -1, maxEvents, threadPool);
    }

    explicit operator bool() const
    {
        return static_cast<bool>(m_consumer);
    }

  private:
    mofka::Consumer m_consumer;
    mofka::TopicHandle m_topic;
};

class TopicHandle {
  public:
    TopicHandle() = default;

    explicit TopicHandle(mofka::TopicHandle topic) : m_topic(std::move(topic))
    {
    }

    std::string name() const
    {
        return m_topic.name();
    }

    std::vector<PartitionInfo> partitions() const
    {
        std::vector<PartitionInfo> all;
        for (const auto& one : m_topic.partitions())
            all.emplace_back(one.string());
        return all;
    }

    /// Options by type, in any order: a name, BatchSize, MaxNumBatches, Ordering, ThreadPool.
    template <typename... Options>
    Producer producer(Options&&... options) const
    {
        mofka::ProducerOptions all;
        (all.set(std::forward<Options>(options)), ...);
        return Producer(m_topic.producer(std::move(all)), m_topic);
    }

    /// Options by type, in any order: BatchSize, MaxNumBatches, ThreadPool, a DataSelector, a DataAllocator, a vector of targets.
    template <typename... Options>
    Consumer consumer(std::string_view name, Options&&... options) const
    {
        mofka::ConsumerOptions all;
        (set(all, std::forward<Options>(options)), ...);
        return Consumer(m_topic.consumer(std::string(name), std::move(all)), m_topic);
    }

    /// It takes no more events, and consumers learn when they have all.
    void markAsComplete() const
    {
        m_topic.markAsComplete();
    }

    explicit operator bool() const
    {
        return static_cast<bool>(m_topic);
    }

  private:
    template <typename T>
    static void set(mofka::ConsumerOptions& all, T&& option)
    {
        using Function = std::decay_t<T>;
        if constexpr (std::is_invocable_r<DataDescriptor, Function&, const Metadata&, const DataDescriptor&>::value) {
            all.set([select = Function(std::forward<T>(option))](const mofka::Metadata& metadata, const DataDescriptor& whole) mutable {
                return DataDescriptor(select(Metadata(metadata.string()), whole));
            });
        } else if constexpr (std::is_invocable_r<DataView, Function&, const Metadata&, const DataDescriptor&>::value) {
            all.set([allocate = Function(std::forward<T>(option))](const mofka::Metadata& metadata, const DataDescriptor& chosen) mutable {
                return DataView(allocate(Metadata(metadata.string()), chosen));
            });
        } else {
            all.set(std::forward<T>(option));
        }
    }

    mofka::TopicHandle m_topic;
};

inline TopicHandle Producer::topic() const
{
    return TopicHandle(m_topic);
}

inline TopicHandle Consumer::topic() const
{
    return TopicHandle(m_topic);
}

class Driver {
  public:
    Driver() = default;

    /// `options`: `group_file`; what else there is about the original's network library means nothing.
    static Driver New(std::string_view type, const Metadata& options)
    {
        const auto& json = options.json();
        if (!json.is_object() || !json.contains("group_file") || !json["group_file"].is_string())
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT, "\"group_file\" key not found in options", "invalid_argument");
        Driver driver;
        const auto groupFile = json["group_file"].get<std::string>();
        driver.m_driver = mofka::Driver::New(type, {{"group_file", groupFile}});
        return driver;
    }

    /// `options`: `num_partitions` (none, if absent), and `config` with a `type`: `memory` (if absent), `default` or `legacy`.
    void createTopic(std::string_view name, const Metadata& options = {}, const Validator& validator = {},
                     const PartitionSelector& selector = {}, const Serializer& serializer = {}) const
    {
        mofka::TopicOptions chosen;
        chosen.partitions = options.json().value("num_partitions", 0U);
        const auto config = options.json().value("config", nlohmann::json::object());
        chosen.partitionKind = config.value("type", "memory") == "memory" ? mofka::PartitionKind::Memory : mofka::PartitionKind::Log;
        chosen.validator = validator.text();
        chosen.partitionSelector = selector.text();
        chosen.serializer = serializer.text();
        m_driver.createTopic(std::string(name), chosen);
    }

    TopicHandle openTopic(std::string_view name) const
    {
        return TopicHandle(m_driver.openTopic(std::string(name)));
    }

    bool topicExists(std::string_view name) const
    {
        return m_driver.topicExists(std::string(name));
    }

    ThreadPool defaultThreadPool() const
    {
        return m_driver.defaultThreadPool();
    }

    ThreadPool makeThreadPool(ThreadCount count) const
    {
        return m_driver.makeThreadPool(count);
    }

    explicit operator bool() const
    {
        return static_cast<bool>(m_driver);
    }

  private:
    mofka::Driver m_driver;
};

} // namespace diaspora

#endif
