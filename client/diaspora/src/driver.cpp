// The driver "mofka" of the Diaspora Stream API.
#include <diaspora/Driver.hpp>
#include <memory>
#include <mofka.hpp>
#include <mofka/MofkaDriver.hpp>
#include <mutex>

#include "components.hpp"
#include "errors.hpp"
#include "interpreter.hpp"
#include "options.hpp"
#include "pool.hpp"
#include "topic.hpp"

namespace mofka_diaspora {

class Driver final : public mofka::MofkaDriver, public std::enable_shared_from_this<Driver> {
  public:
    explicit Driver(const mofka::DriverOptions& options) : m_driver(options)
    {
    }

    ~Driver() override
    {
        interpreter::Unlocked unlocked;
        m_defaultPool.reset();
        m_driver = mofka::Driver();
    }

    static std::shared_ptr<diaspora::DriverInterface> create(const diaspora::Metadata& given)
    {
        interpreter::look();
        const mofka::DriverOptions chosen = options::driver(given);
        return translated([&] {
            interpreter::Unlocked unlocked;
            return std::make_shared<Driver>(chosen);
        });
    }

    void createTopic(std::string_view name, const diaspora::Metadata& given, std::shared_ptr<diaspora::ValidatorInterface> validator,
                     std::shared_ptr<diaspora::PartitionSelectorInterface> selector,
                     std::shared_ptr<diaspora::SerializerInterface> serializer) override
    {
        using components::Kind;
        mofka::TopicOptions chosen = options::topic(given);
        chosen.validator = stored(Kind::Validator, validator);
        chosen.partitionSelector = stored(Kind::PartitionSelector, selector);
        chosen.serializer = stored(Kind::Serializer, serializer);
        translated([&] {
            interpreter::Unlocked unlocked;
            m_driver.createTopic(std::string(name), chosen);
        });
    }

    std::shared_ptr<diaspora::TopicHandleInterface> openTopic(std::string_view name) const override
    {
        // Nothing of its makings is changed by a topic.
        auto self = std::const_pointer_cast<Driver>(shared_from_this());
        return translated([&] {
            interpreter::Unlocked unlocked;
            return std::make_shared<Topic>(std::move(self), m_driver.openTopic(std::string(name)));
        });
    }

    bool topicExists(std::string_view name) const override
    {
        return translated([&] {
            interpreter::Unlocked unlocked;
            return m_driver.topicExists(std::string(name));
        });
    }

    std::unordered_map<std::string, diaspora::Metadata> listTopics() const override
    {
        const std::string listed = translated([&] {
            interpreter::Unlocked unlocked;
            return m_driver.listTopics().string();
        });
        std::unordered_map<std::string, diaspora::Metadata> topics;
        for (auto& topic : nlohmann::json::parse(listed)) {
            for (const char* key : {"validator", "partition_selector", "serializer"})
                if (topic.contains(key) && !topic[key].is_object())
                    topic.erase(key);
            std::string name = topic["name"].get<std::string>();
            topics.emplace(std::move(name), diaspora::Metadata(std::move(topic)));
        }
        return topics;
    }

    /// The same each time: programs compare.
    std::shared_ptr<diaspora::ThreadPoolInterface> defaultThreadPool() const override
    {
        std::lock_guard lock(m_mutex);
        if (!m_defaultPool)
            m_defaultPool = std::make_shared<Pool>(translated([&] { return m_driver.defaultThreadPool(); }));
        return m_defaultPool;
    }

    std::shared_ptr<diaspora::ThreadPoolInterface> makeThreadPool(diaspora::ThreadCount count) const override
    {
        return std::make_shared<Pool>(translated([&] { return m_driver.makeThreadPool(mofka::ThreadCount(count.count)); }));
    }

    std::size_t numServers() const override
    {
        return m_driver.numServers();
    }

    void addCustomPartition(std::string_view topic, std::size_t rank, std::string_view type, const diaspora::Metadata&,
                            const diaspora::Metadata&) override
    {
        if (rank >= numServers())
            throw diaspora::Exception("there is no server of rank " + std::to_string(rank) + ": the group has " +
                                      std::to_string(numServers()));
        mofka::PartitionOptions chosen;
        chosen.rank = static_cast<std::uint32_t>(rank);
        chosen.kind = options::partitionKind(type);
        translated([&] {
            interpreter::Unlocked unlocked;
            m_driver.addPartition(std::string(topic), chosen);
        });
    }

    void markAsComplete(std::string_view topic) override
    {
        translated([&] {
            interpreter::Unlocked unlocked;
            m_driver.openTopic(std::string(topic)).markAsComplete();
        });
    }

  private:
    /// A component's document, of a type that the client knows from now on, if the API does.
    template <typename Interface>
    static std::string stored(components::Kind kind, const std::shared_ptr<Interface>& component)
    {
        if (!component)
            return "";
        const nlohmann::json document = components::document(*component);
        components::adapt(kind, document);
        return document.dump();
    }

    mofka::Driver m_driver;
    mutable std::mutex m_mutex;
    mutable std::shared_ptr<Pool> m_defaultPool;
};

DIASPORA_REGISTER_DRIVER(mofka, mofka, Driver);

} // namespace mofka_diaspora
