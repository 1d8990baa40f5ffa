// What the driver "mofka" of the Diaspora Stream API does beyond that API: `driver.as<mofka::MofkaDriver>()`.
#ifndef MOFKA_MOFKA_DRIVER_HPP
#define MOFKA_MOFKA_DRIVER_HPP

#include <cstddef>
#include <diaspora/Driver.hpp>
#include <string>
#include <string_view>

namespace mofka {

/// Adds partitions. What other arguments of the original would say of databases, pools and files is the node's own matter: they are
/// taken, and mean nothing.
class MofkaDriver : public diaspora::DriverInterface {
  public:
    /// Nodes of the group.
    virtual std::size_t numServers() const = 0;

    /// There is nothing to start.
    void startProgressThread() const
    {
    }

    /// Adds a partition at the node of this rank: type `memory`, or `default` or `legacy`, which are both a log on the node's device.
    /// Topics that are open see it when they are opened again. Throws when there is no such topic, node or type.
    virtual void addCustomPartition(std::string_view topic, std::size_t rank, std::string_view type = "memory",
                                    const diaspora::Metadata& config = {}, const diaspora::Metadata& dependencies = {}) = 0;

    void addMemoryPartition(std::string_view topic, std::size_t rank, std::string_view pool = "")
    {
        (void)pool;
        addCustomPartition(topic, rank, "memory");
    }

    void addDefaultPartition(std::string_view topic, std::size_t rank, std::string_view ioInstance = "",
                             const diaspora::Metadata& config = {}, std::string_view pool = "")
    {
        (void)ioInstance;
        (void)pool;
        addCustomPartition(topic, rank, "default", config);
    }

    void addLegacyPartition(std::string_view topic, std::size_t rank, std::string_view metadataProvider = "",
                            std::string_view dataProvider = "", const diaspora::Metadata& config = {},
                            std::string_view pool = "")
    {
        (void)metadataProvider;
        (void)dataProvider;
        (void)pool;
        addCustomPartition(topic, rank, "legacy", config);
    }

    /// The topic takes no more events, and consumers get NoMoreEvents when they have all.
    virtual void markAsComplete(std::string_view topic) = 0;
};

} // namespace mofka

#endif
