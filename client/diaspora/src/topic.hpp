// A topic that was opened.
#ifndef MOFKA_DIASPORA_TOPIC_HPP
#define MOFKA_DIASPORA_TOPIC_HPP

#include <diaspora/TopicHandle.hpp>
#include <memory>
#include <mofka.hpp>
#include <string>
#include <vector>

namespace mofka_diaspora {

/// A partition as the API tells of it: what the original says of one, and what the client does.
diaspora::PartitionInfo partitionOf(const nlohmann::json& info);

class Topic final : public diaspora::TopicHandleInterface, public std::enable_shared_from_this<Topic> {
  public:
    Topic(std::shared_ptr<diaspora::DriverInterface> driver, mofka::TopicHandle handle);

    const std::string& name() const override
    {
        return m_name;
    }

    std::shared_ptr<diaspora::DriverInterface> driver() const override
    {
        return m_driver;
    }

    const std::vector<diaspora::PartitionInfo>& partitions() const override
    {
        return m_partitions;
    }

    diaspora::Validator validator() const override;
    diaspora::PartitionSelector selector() const override;
    diaspora::Serializer serializer() const override;

    std::shared_ptr<diaspora::ProducerInterface> makeProducer(std::string_view name, diaspora::BatchSize batchSize,
                                                              diaspora::MaxNumBatches maxNumBatches, diaspora::Ordering ordering,
                                                              std::shared_ptr<diaspora::ThreadPoolInterface> threadPool,
                                                              diaspora::Metadata options) override;

    std::shared_ptr<diaspora::ConsumerInterface> makeConsumer(std::string_view name, diaspora::BatchSize batchSize,
                                                              diaspora::MaxNumBatches maxNumBatches,
                                                              std::shared_ptr<diaspora::ThreadPoolInterface> threadPool,
                                                              diaspora::DataAllocator dataAllocator,
                                                              diaspora::DataSelector dataSelector,
                                                              const std::vector<std::size_t>& targets,
                                                              diaspora::Metadata options) override;

    /// One partition, also one that was added after the topic was opened.
    diaspora::PartitionInfo partition(std::size_t index) const;

  private:
    /// The document of one of its components.
    const nlohmann::json& document(const char* key) const;

    std::shared_ptr<diaspora::DriverInterface> m_driver;
    mofka::TopicHandle m_handle;
    nlohmann::json m_info;
    std::string m_name;
    std::vector<diaspora::PartitionInfo> m_partitions;
};

} // namespace mofka_diaspora

#endif
