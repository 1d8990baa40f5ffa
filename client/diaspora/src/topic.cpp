#include "topic.hpp"

#include <diaspora/Driver.hpp>

#include "components.hpp"
#include "consumer.hpp"
#include "errors.hpp"
#include "interpreter.hpp"
#include "options.hpp"
#include "pool.hpp"
#include "producer.hpp"

namespace mofka_diaspora {

diaspora::PartitionInfo partitionOf(const nlohmann::json& info)
{
    nlohmann::json told = info;
    told["uuid"] = info.value("id", "");
    const auto addresses = info.value("addresses", nlohmann::json::array());
    told["address"] = addresses.empty() ? nlohmann::json("") : addresses.front();
    told["provider_id"] = info.value("shard", 0);
    return diaspora::PartitionInfo(std::move(told));
}

Topic::Topic(std::shared_ptr<diaspora::DriverInterface> driver, mofka::TopicHandle handle)
    : m_driver(std::move(driver)), m_handle(std::move(handle)), m_info(nlohmann::json::parse(m_handle.info().string())),
      m_name(m_handle.name())
{
    for (const auto& info : m_info["partitions"])
        m_partitions.push_back(partitionOf(info));

    using components::Kind;
    std::string unknown;
    for (auto [kind, key] : {std::pair{Kind::Validator, "validator"}, std::pair{Kind::PartitionSelector, "partition_selector"},
                             std::pair{Kind::Serializer, "serializer"}}) {
        const std::string reason = components::adapt(kind, document(key));
        if (!reason.empty())
            unknown += "; " + reason;
    }
    try {
        m_handle.checkComponents();
    } catch (const mofka::Exception& error) {
        throw diaspora::Exception("Topic \"" + m_name + "\" cannot be opened: " + error.what() + unknown);
    }
}

const nlohmann::json& Topic::document(const char* key) const
{
    static const nlohmann::json byDefault = nlohmann::json::object();
    auto found = m_info.find(key);
    return found == m_info.end() || found->is_null() ? byDefault : *found;
}

diaspora::Validator Topic::validator() const
{
    return components::validator(document("validator"));
}

diaspora::PartitionSelector Topic::selector() const
{
    auto selector = components::partitionSelector(document("partition_selector"));
    selector.setPartitions(m_partitions);
    return selector;
}

diaspora::Serializer Topic::serializer() const
{
    return components::serializer(document("serializer"));
}

diaspora::PartitionInfo Topic::partition(std::size_t index) const
{
    if (index < m_partitions.size())
        return m_partitions[index];
    return translated([&] {
        interpreter::Unlocked unlocked;
        m_handle.refresh();
        return partitionOf(nlohmann::json::parse(m_handle.partitions().at(index).string()));
    });
}

std::shared_ptr<diaspora::ProducerInterface> Topic::makeProducer(std::string_view name, diaspora::BatchSize batchSize,
                                                                 diaspora::MaxNumBatches maxNumBatches, diaspora::Ordering ordering,
                                                                 std::shared_ptr<diaspora::ThreadPoolInterface> threadPool,
                                                                 diaspora::Metadata given)
{
    interpreter::look();
    mofka::ProducerOptions chosen;
    options::producer(given, chosen);
    chosen.name = std::string(name);
    chosen.batchSize = options::batchSize(batchSize.value);
    chosen.maxNumBatches = options::maxNumBatches(maxNumBatches.value);
    chosen.ordering = ordering == diaspora::Ordering::Strict ? mofka::Ordering::Strict : mofka::Ordering::Loose;
    chosen.threadPool = Pool::of(threadPool);
    // The end of a producer sends what is left, and events end by themselves: acknowledged, or when a lost node is looked for no more.
    chosen.dropTimeoutMs = 600'000;
    auto producer = translated([&] { return m_handle.producer(chosen); });
    return std::make_shared<Producer>(shared_from_this(), std::string(name), batchSize, maxNumBatches, ordering,
                                      threadPool ? threadPool : m_driver->defaultThreadPool(), std::move(producer));
}

std::shared_ptr<diaspora::ConsumerInterface>
Topic::makeConsumer(std::string_view name, diaspora::BatchSize batchSize, diaspora::MaxNumBatches maxNumBatches,
                    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool, diaspora::DataAllocator dataAllocator,
                    diaspora::DataSelector dataSelector, const std::vector<std::size_t>& targets, diaspora::Metadata given)
{
    for (std::size_t target : targets)
        if (target >= m_partitions.size())
            throw diaspora::Exception("Invalid partition index passed to TopicHandle::consumer(): " + std::to_string(target) +
                                      ", and topic \"" + m_name + "\" has " + std::to_string(m_partitions.size()) + " partitions");
    mofka::ConsumerOptions chosen;
    options::consumer(given, chosen);
    chosen.batchSize = options::batchSize(batchSize.value);
    chosen.maxNumBatches = options::maxNumBatches(maxNumBatches.value);
    chosen.targets = targets;
    chosen.threadPool = Pool::of(threadPool);
    Consumer::Functions functions{std::move(dataSelector), std::move(dataAllocator), interpreter::look()};
    std::shared_ptr<Selecting> selecting;
    if (functions.selector && !functions.isInterpreted) {
        selecting = std::make_shared<Selecting>(functions.selector);
        chosen.data = MOFKA_DATA_SELECTOR;
        chosen.dataSelector = [selecting](const mofka::Metadata& metadata, const mofka::DataDescriptor& whole) {
            return selecting->choose(metadata, whole);
        };
    }
    auto consumer = translated([&] {
        interpreter::Unlocked unlocked;
        return m_handle.consumer(std::string(name), chosen);
    });
    return std::make_shared<Consumer>(shared_from_this(), std::string(name), batchSize, maxNumBatches,
                                      threadPool ? threadPool : m_driver->defaultThreadPool(), std::move(functions),
                                      std::move(selecting), std::move(consumer));
}

} // namespace mofka_diaspora
