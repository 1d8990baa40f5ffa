// Pulls events.
#ifndef MOFKA_DIASPORA_CONSUMER_HPP
#define MOFKA_DIASPORA_CONSUMER_HPP

#include <atomic>
#include <diaspora/Consumer.hpp>
#include <memory>
#include <mofka.hpp>
#include <shared_mutex>
#include <string>

#include "topic.hpp"

namespace mofka_diaspora {

/// A selector that threads of the client call, ahead of the pulls: what it returns is fetched with what others chose of the same batch.
class Selecting {
  public:
    explicit Selecting(diaspora::DataSelector select) : m_select(std::move(select))
    {
    }

    mofka::DataDescriptor choose(const mofka::Metadata& metadata, const mofka::DataDescriptor& whole);

    /// Returns when no thread is in it any more, and lets none in: what the program gave along may go then. Within the selector itself
    /// it does not wait for that.
    void end();

  private:
    diaspora::DataSelector m_select;
    std::shared_mutex m_mutex;
    std::atomic<bool> m_isOver{false};
};

class Consumer final : public diaspora::ConsumerInterface {
  public:
    /// What the program gave along.
    struct Functions {
        diaspora::DataSelector selector;
        diaspora::DataAllocator allocator;
        /// They may be an interpreter's: both are called by the thread that waits for the event, which fetches its data then. If
        /// not, only the allocator is.
        bool isInterpreted;
    };

    Consumer(std::shared_ptr<Topic> topic, std::string name, diaspora::BatchSize batchSize, diaspora::MaxNumBatches maxNumBatches,
             std::shared_ptr<diaspora::ThreadPoolInterface> threadPool, Functions functions, std::shared_ptr<Selecting> selecting,
             mofka::Consumer consumer);
    ~Consumer() override;

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

    std::shared_ptr<diaspora::ThreadPoolInterface> threadPool() const override
    {
        return m_threadPool;
    }

    std::shared_ptr<diaspora::TopicHandleInterface> topic() const override
    {
        return m_topic;
    }

    const diaspora::DataAllocator& dataAllocator() const override
    {
        return m_functions->allocator;
    }

    const diaspora::DataSelector& dataSelector() const override
    {
        return m_functions->selector;
    }

    void process(diaspora::EventProcessor processor, int timeoutMs, diaspora::NumEvents maxEvents,
                 std::shared_ptr<diaspora::ThreadPoolInterface> threadPool) override;
    void unsubscribe() override;
    diaspora::Future<std::optional<diaspora::Event>> pull() override;

  private:
    std::shared_ptr<Topic> m_topic;
    std::string m_name;
    diaspora::BatchSize m_batchSize;
    diaspora::MaxNumBatches m_maxNumBatches;
    std::shared_ptr<diaspora::ThreadPoolInterface> m_threadPool;
    /// Shared with the pulls, which outlive it.
    std::shared_ptr<const Functions> m_functions;
    /// None, if no thread of the client calls a selector.
    std::shared_ptr<Selecting> m_selecting;
    mofka::Consumer m_consumer;
    std::atomic<bool> m_isProcessing{false};
};

} // namespace mofka_diaspora

#endif
