// An event that was pulled. Lives on its own.
#ifndef MOFKA_DIASPORA_EVENT_HPP
#define MOFKA_DIASPORA_EVENT_HPP

#include <diaspora/Event.hpp>
#include <mofka.hpp>

#include "errors.hpp"
#include "interpreter.hpp"
#include "topic.hpp"

namespace mofka_diaspora {

class Event final : public diaspora::EventInterface {
  public:
    /// The one that says that no more come.
    Event() = default;

    Event(std::shared_ptr<Topic> topic, mofka::Event event, diaspora::Metadata metadata, diaspora::DataView data)
        : m_topic(std::move(topic)), m_event(std::move(event)), m_metadata(std::move(metadata)), m_data(std::move(data))
    {
    }

    /// Its data may be an interpreter's, and this any thread.
    ~Event() override
    {
        if (m_data.size() > 0 || m_data.context())
            interpreter::discard(std::move(m_data));
    }

    const diaspora::Metadata& metadata() const override
    {
        return m_metadata;
    }

    const diaspora::DataView& data() const override
    {
        return m_data;
    }

    diaspora::PartitionInfo partition() const override
    {
        return m_event ? m_topic->partition(m_event.partition()) : diaspora::PartitionInfo();
    }

    diaspora::EventID id() const override
    {
        return m_event ? m_event.id() : diaspora::NoMoreEvents;
    }

    void acknowledge() const override
    {
        translated([&] {
            interpreter::Unlocked unlocked;
            m_event.acknowledge();
        });
    }

  private:
    std::shared_ptr<Topic> m_topic;
    mofka::Event m_event;
    diaspora::Metadata m_metadata;
    diaspora::DataView m_data;
};

} // namespace mofka_diaspora

#endif
