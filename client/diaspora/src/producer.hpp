// Pushes events.
#ifndef MOFKA_DIASPORA_PRODUCER_HPP
#define MOFKA_DIASPORA_PRODUCER_HPP

#include <diaspora/Producer.hpp>
#include <memory>
#include <mofka.hpp>
#include <string>

#include "topic.hpp"

namespace mofka_diaspora {

class Producer final : public diaspora::ProducerInterface {
  public:
    Producer(std::shared_ptr<Topic> topic, std::string name, diaspora::BatchSize batchSize, diaspora::MaxNumBatches maxNumBatches,
             diaspora::Ordering ordering, std::shared_ptr<diaspora::ThreadPoolInterface> threadPool, mofka::Producer producer)
        : m_topic(std::move(topic)), m_name(std::move(name)), m_batchSize(batchSize), m_maxNumBatches(maxNumBatches),
          m_ordering(ordering), m_threadPool(std::move(threadPool)), m_producer(std::move(producer))
    {
    }

    /// Sends what is left, and waits for it.
    ~Producer() override;

    const std::string& name() const override
    {
        return m_name;
    }

    diaspora::BatchSize batchSize() const override
    {
        return m_batchSize;
    }

    diaspora::MaxNumBatches maxNumBatches() const override
    {
        return m_maxNumBatches;
    }

    diaspora::Ordering ordering() const override
    {
        return m_ordering;
    }

    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool() const override
    {
        return m_threadPool;
    }

    std::shared_ptr<diaspora::TopicHandleInterface> topic() const override
    {
        return m_topic;
    }

    diaspora::Future<std::optional<diaspora::EventID>> push(diaspora::Metadata metadata, diaspora::DataView data,
                                                            std::optional<std::size_t> partition) override;
    diaspora::Future<std::optional<diaspora::Flushed>> flush() override;

  private:
    std::shared_ptr<Topic> m_topic;
    std::string m_name;
    diaspora::BatchSize m_batchSize;
    diaspora::MaxNumBatches m_maxNumBatches;
    diaspora::Ordering m_ordering;
    std::shared_ptr<diaspora::ThreadPoolInterface> m_threadPool;
    mofka::Producer m_producer;
};

} // namespace mofka_diaspora

#endif
