#include "options.hpp"

#include <algorithm>
#include <diaspora/Exception.hpp>
#include <string>

namespace mofka_diaspora::options {

namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& what)
{
    throw diaspora::Exception(what);
}

/// Throws for a key that is none of these.
void only(const json& object, const char* where, std::initializer_list<const char*> keys)
{
    if (object.is_null())
        return;
    if (!object.is_object())
        fail(std::string(where) + " have to be a JSON object, and are " + object.dump());
    for (const auto& item : object.items())
        if (std::find(keys.begin(), keys.end(), item.key()) == keys.end()) {
            std::string known;
            for (const char* key : keys)
                known += (known.empty() ? "\"" : ", \"") + std::string(key) + "\"";
            fail(std::string(where) + " have an unknown key \"" + item.key() + "\": there are " + known);
        }
}

/// The value under a key; null when there is none.
const json& at(const json& object, const char* key)
{
    static const json none;
    auto found = object.is_object() ? object.find(key) : object.end();
    return object.is_object() && found != object.end() ? *found : none;
}

mofka::Durability durability(const json& value, mofka::Durability otherwise)
{
    if (value.is_null())
        return otherwise;
    if (value == "synced")
        return mofka::Durability::Synced;
    if (value == "written")
        return mofka::Durability::Written;
    if (value == "buffered")
        return mofka::Durability::Buffered;
    fail("\"durability\" has to be \"synced\", \"written\" or \"buffered\", and is " + value.dump());
}

/// The value of a key that has to be an object, as text; empty when there is none.
std::string objectAt(const json& object, const char* key)
{
    const json& value = at(object, key);
    if (!value.is_null() && !value.is_object())
        fail("\"" + std::string(key) + "\" has to be an object, and is " + value.dump());
    return value.is_null() ? "" : value.dump();
}

std::uint32_t countAt(const json& object, const char* key, std::uint32_t least)
{
    const json& value = at(object, key);
    if (value.is_null())
        return 0;
    const bool isCount = value.is_number_integer() && value >= least && value <= 1'000'000;
    if (!isCount)
        fail("\"" + std::string(key) + "\" has to be an integer from " + std::to_string(least) + " on, and is " + value.dump());
    return value.get<std::uint32_t>();
}

} // namespace

mofka::DriverOptions driver(const diaspora::Metadata& given)
{
    const json& options = given.json();
    if (!options.is_object() || !options.contains("group_file"))
        fail("\"group_file\" key not found in options");
    if (!options["group_file"].is_string())
        fail("\"group_file\" has to be the path of a group file, and is " + options["group_file"].dump());
    mofka::DriverOptions chosen;
    chosen.groupFile = options["group_file"].get<std::string>();
    return chosen;
}

mofka::PartitionKind partitionKind(std::string_view type)
{
    if (type == "memory")
        return mofka::PartitionKind::Memory;
    if (type == "default" || type == "legacy")
        return mofka::PartitionKind::Log;
    fail("there is no partition type \"" + std::string(type) + "\": there are \"memory\", \"default\" and \"legacy\"");
}

mofka::TopicOptions topic(const diaspora::Metadata& given)
{
    const json& options = given.json();
    only(options, "options of a topic",
         {"num_partitions", "config", "dependencies", "durability", "retention", "producers_expected"});
    mofka::TopicOptions chosen;
    chosen.partitions = countAt(options, "num_partitions", 1);

    const json& config = at(options, "config");
    only(config, "options of partitions (\"config\")", {"type", "partition", "uuid"});
    const json& type = at(config, "type");
    if (!type.is_null() && !type.is_string())
        fail("the partitions' \"type\" has to be text, and is " + type.dump());
    chosen.partitionKind = partitionKind(type.is_null() ? "memory" : type.get_ref<const std::string&>());
    if (!at(config, "uuid").is_null())
        fail("\"uuid\" is not taken: partitions stay with their topic when a node starts again, and need not be adopted");
    // Paths, sizes and caches of its files are the node's own matter.
    objectAt(config, "partition");

    const json& dependencies = at(options, "dependencies");
    objectAt(options, "dependencies");
    for (const auto& item : dependencies.items()) {
        const json& value = item.value();
        const bool isTexts = value.is_array() && std::all_of(value.begin(), value.end(), [](const json& one) { return one.is_string(); });
        if (!value.is_string() && !isTexts)
            fail("dependency \"" + item.key() + "\" has to be text or a list of texts, and is " + value.dump());
    }

    chosen.durability = durability(at(options, "durability"), mofka::Durability::Default);
    chosen.retention = objectAt(options, "retention");
    chosen.producersExpected = countAt(options, "producers_expected", 0);
    return chosen;
}

void producer(const diaspora::Metadata& given, mofka::ProducerOptions& options)
{
    only(given.json(), "options of a producer", {"ack_early", "durability"});
    const json& early = at(given.json(), "ack_early");
    if (!early.is_null() && !early.is_boolean())
        fail("\"ack_early\" has to be true or false, and is " + early.dump());
    const auto otherwise = early == true ? mofka::Durability::Buffered : mofka::Durability::Default;
    options.durability = durability(at(given.json(), "durability"), otherwise);
}

void consumer(const diaspora::Metadata& given, mofka::ConsumerOptions& options)
{
    // The API takes the first argument that JSON can be made of for the options: a list of targets, too.
    if (!given.json().is_object())
        return;
    only(given.json(), "options of a consumer", {"filter"});
    options.filter = objectAt(given.json(), "filter");
}

mofka::BatchSize batchSize(std::size_t events)
{
    constexpr std::size_t adaptive = std::numeric_limits<std::size_t>::max();
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (events == adaptive)
        return mofka::BatchSize::Adaptive();
    return mofka::BatchSize(static_cast<std::uint32_t>(std::min(events, most)));
}

mofka::MaxNumBatches maxNumBatches(std::size_t batches)
{
    // More of them cannot be told from none at all.
    constexpr std::size_t most = 1 << 20;
    return mofka::MaxNumBatches(std::min(batches, most));
}

} // namespace mofka_diaspora::options
