// Generation A: the C++ interface of Mofka up to 0.6 (namespace mofka, `MofkaDriver`), over mofka.hpp.
//
// For programs of that time as they are: `wait()` gives the value, metadata is text, data goes where a `DataBroker` says.
#ifndef MOFKA_GENERATION_A_HPP
#define MOFKA_GENERATION_A_HPP

#include <mofka.hpp>

namespace mofka {

using Data = DataView;
using DataBroker = DataAllocator;

namespace detail {

/// A component of a topic: its document, JSON. It works in the client.
template <int Kind>
class Component {
  public:
    /// The default one.
    Component() = default;

    static Component FromMetadata(const Metadata& metadata)
    {
        Component made;
        made.m_document = metadata.string();
        return made;
    }

    /// Of this type; `metadata` is an object with the rest.
    static Component FromMetadata(const char* type, const Metadata& metadata = {})
    {
        const std::string& rest = metadata.string();
        const auto brace = rest.find('{');
        const auto first = rest.find_first_not_of(" \t\r\n", brace == std::string::npos ? brace : brace + 1);
        if (first == std::string::npos)
            throw Exception(MOFKA_ERROR_INVALID_ARGUMENT, "a component's metadata has to be a JSON object, and is " + rest,
                            "invalid_argument");
        const std::string key = R"({"type":")" + std::string(type) + "\"";
        return FromMetadata(Metadata(key + (rest[first] == '}' ? "" : ",") + rest.substr(first)));
    }

    /// Empty for the default one.
    const std::string& text() const
    {
        return m_document;
    }

  private:
    std::string m_document;
};

} // namespace detail

using Validator = detail::Component<0>;
using PartitionSelector = detail::Component<1>;
using Serializer = detail::Component<2>;

/// The way to the nodes of a group file.
class MofkaDriver {
  public:
    MofkaDriver() = default;

    /// What follows the file was about the original's network library: it means nothing here.
    template <typename... Ignored>
    explicit MofkaDriver(std::string_view groupFile, Ignored&&...) : m_driver(std::string(groupFile))
    {
    }

    std::size_t numServers() const
    {
        return m_driver.numServers();
    }

    /// Without partitions: they are added.
    void createTopic(std::string_view name, const Validator& validator = {}, const PartitionSelector& selector = {},
                     const Serializer& serializer = {}) const
    {
        TopicOptions chosen;
        chosen.partitions = 0;
        chosen.validator = validator.text();
        chosen.partitionSelector = selector.text();
        chosen.serializer = serializer.text();
        m_driver.createTopic(std::string(name), chosen);
    }

    TopicHandle openTopic(std::string_view name) const
    {
        return m_driver.openTopic(std::string(name));
    }

    bool topicExists(std::string_view name) const
    {
        return m_driver.topicExists(std::string(name));
    }

    /// Which databases and pools it would use is the node's own matter.
    template <typename... Ignored>
    void addMemoryPartition(std::string_view topic, std::size_t rank, Ignored&&...) const
    {
        m_driver.addMemoryPartition(std::string(topic), static_cast<std::uint32_t>(rank));
    }

    template <typename... Ignored>
    void addDefaultPartition(std::string_view topic, std::size_t rank, Ignored&&...) const
    {
        m_driver.addDefaultPartition(std::string(topic), static_cast<std::uint32_t>(rank));
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
    Driver m_driver;
};

using ServiceHandle = MofkaDriver;

/// The oldest way: `Client(engine).connect("mofka.json")`.
class Client {
  public:
    template <typename... Ignored>
    explicit Client(Ignored&&...)
    {
    }

    ServiceHandle connect(std::string_view groupFile) const
    {
        return ServiceHandle(groupFile);
    }
};

} // namespace mofka

#endif
