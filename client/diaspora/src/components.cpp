#include "components.hpp"

#include <mofka.hpp>
#include <mofka_component.h>

#include <cstring>
#include <dlfcn.h>
#include <iostream>
#include <mutex>
#include <set>
#include <typeinfo>
#include <unistd.h>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "topic.hpp"

namespace mofka_diaspora::components {

namespace {

using nlohmann::json;

/// Says to the client why something failed; no exception passes.
template <typename F>
std::int32_t guarded(const mofka_sink* error, F&& function) noexcept
{
    try {
        std::forward<F>(function)();
        return MOFKA_OK;
    } catch (const std::exception& exception) {
        return mofka_fail(error, exception.what());
    } catch (...) {
        return mofka_fail(error, "it threw something that is no std::exception");
    }
}

diaspora::Metadata parsed(mofka_text text)
{
    return diaspora::Metadata(std::string_view(text.start ? text.start : "", text.bytes));
}

/// Where a serializer writes to.
class Output final : public diaspora::Archive {
  public:
    explicit Output(const mofka_sink* sink) : m_sink(sink)
    {
    }

    void read(void*, std::size_t) override
    {
        throw diaspora::Exception("serialize() cannot read");
    }

    void write(const void* from, std::size_t bytes) override
    {
        if (m_sink->write(m_sink->context, from, bytes) != MOFKA_OK)
            throw diaspora::Exception("the serialized metadata is too large");
    }

  private:
    const mofka_sink* m_sink;
};

/// What a serializer reads from. Stored bytes may be anything.
class Input final : public diaspora::Archive {
  public:
    explicit Input(mofka_data stored) : m_stored(stored)
    {
    }

    void read(void* into, std::size_t bytes) override
    {
        if (bytes > m_stored.bytes)
            throw diaspora::Exception("deserialize() reads " + std::to_string(bytes) + " bytes, and " +
                                      std::to_string(m_stored.bytes) + " are left");
        if (bytes > 0)
            std::memcpy(into, m_stored.start, bytes);
        m_stored.start += bytes;
        m_stored.bytes -= bytes;
    }

    void write(const void*, std::size_t) override
    {
        throw diaspora::Exception("deserialize() cannot write");
    }

  private:
    mofka_data m_stored;
};

/// A selector keeps state, and nothing says that several threads may call it.
struct Selecting {
    diaspora::PartitionSelector selector;
    std::mutex mutex;
};

std::int32_t createValidator(mofka_text config, void** instance, const mofka_sink* error)
{
    return guarded(error, [&] { *instance = new diaspora::Validator(validator(parsed(config).json())); });
}

void destroyValidator(void* instance)
{
    delete static_cast<diaspora::Validator*>(instance);
}

std::int32_t validate(void* instance, mofka_text metadata, const mofka_data* segments, std::uint64_t count,
                      const mofka_sink* error)
{
    return guarded(error, [&] {
        std::vector<diaspora::DataView::Segment> parts;
        for (std::uint64_t i = 0; i < count; ++i)
            parts.push_back({const_cast<std::uint8_t*>(segments[i].start), segments[i].bytes});
        static_cast<diaspora::Validator*>(instance)->validate(parsed(metadata), diaspora::DataView(std::move(parts)));
    });
}

std::int32_t createSelector(mofka_text config, void** instance, const mofka_sink* error)
{
    return guarded(error, [&] { *instance = new Selecting{partitionSelector(parsed(config).json()), {}}; });
}

void destroySelector(void* instance)
{
    delete static_cast<Selecting*>(instance);
}

std::int32_t setPartitions(void* instance, mofka_text partitions, const mofka_sink* error)
{
    return guarded(error, [&] {
        const diaspora::Metadata told = parsed(partitions);
        std::vector<diaspora::PartitionInfo> all;
        for (const json& one : told.json())
            all.push_back(partitionOf(one));
        auto* self = static_cast<Selecting*>(instance);
        std::lock_guard lock(self->mutex);
        self->selector.setPartitions(all);
    });
}

std::int32_t selectPartition(void* instance, mofka_text metadata, const std::uint64_t* requested, std::uint64_t,
                             std::uint64_t* index, const mofka_sink* error)
{
    return guarded(error, [&] {
        auto* self = static_cast<Selecting*>(instance);
        diaspora::Metadata event = parsed(metadata);
        std::lock_guard lock(self->mutex);
        *index = self->selector.selectPartitionFor(event, requested ? std::optional<std::size_t>(*requested) : std::nullopt);
    });
}

std::int32_t createSerializer(mofka_text config, void** instance, const mofka_sink* error)
{
    return guarded(error, [&] { *instance = new diaspora::Serializer(serializer(parsed(config).json())); });
}

void destroySerializer(void* instance)
{
    delete static_cast<diaspora::Serializer*>(instance);
}

std::int32_t serialize(void* instance, mofka_text metadata, const mofka_sink* out, const mofka_sink* error)
{
    return guarded(error, [&] {
        Output archive(out);
        static_cast<diaspora::Serializer*>(instance)->serialize(archive, parsed(metadata));
    });
}

std::int32_t deserialize(void* instance, mofka_data stored, const mofka_sink* out, const mofka_sink* error)
{
    return guarded(error, [&] {
        Input archive(stored);
        diaspora::Metadata metadata;
        static_cast<diaspora::Serializer*>(instance)->deserialize(archive, metadata);
        const std::string text = metadata.dump();
        Output(out).write(text.data(), text.size());
    });
}

struct KindOf {
    const char* name;
    std::set<std::string> builtIn;
    mofka_component component;
};

/// What the client does itself is its own for these types, also where the API has it.
const KindOf& kindOf(Kind kind)
{
    static const KindOf kinds[] = {
        {"Validator",
         {"default", "schema", "eventbridge"},
         {MOFKA_VALIDATOR, 0, nullptr, createValidator, destroyValidator, validate, nullptr, nullptr, nullptr, nullptr}},
        {"PartitionSelector",
         {"default", "key_hash"},
         {MOFKA_PARTITION_SELECTOR, 0, nullptr, createSelector, destroySelector, nullptr, setPartitions, selectPartition,
          nullptr, nullptr}},
        {"Serializer",
         {"default", "schema", "property_list_serializer"},
         {MOFKA_SERIALIZER, 0, nullptr, createSerializer, destroySerializer, nullptr, nullptr, nullptr, serialize,
          deserialize}},
    };
    return kinds[static_cast<std::size_t>(kind)];
}

/// The type's name, and the library after its colon.
std::pair<std::string, std::string> typeOf(const json& document)
{
    if (!document.is_object() || !document.contains("type") || !document["type"].is_string())
        return {"default", ""};
    const auto& type = document["type"].get_ref<const std::string&>();
    auto colon = type.find(':');
    if (colon == std::string::npos)
        return {type, ""};
    return {type.substr(0, colon), type.substr(colon + 1)};
}

/// A document that makes the API load no other library than `MOFKA_PLUGIN_PATH` lets it, as the client does (docs/PLUGINS.md):
/// documents come over the network, from whoever may create topics.
json permitted(const json& document)
{
    auto [name, library] = typeOf(document);
    const char* path = std::getenv("MOFKA_PLUGIN_PATH");
    if (!path && library.find('/') == std::string::npos)
        return document;
    // Types that are known already are found, and nothing is loaded for others.
    std::string allowed = "(not one that MOFKA_PLUGIN_PATH lets this process load)/" + library;
    const std::string file = library.empty() ? "lib" + name + ".so" : library;
    for (const char* at = path ? path : ""; *at != '\0';) {
        const std::string directory(at, std::strcspn(at, ":"));
        at += directory.size() + (at[directory.size()] == ':');
        const bool isInside = file.find('/') == std::string::npos ||
                              (file.rfind(directory + "/", 0) == 0 && file.find('/', directory.size() + 1) == std::string::npos);
        const std::string full = file.find('/') == std::string::npos ? directory + "/" + file : file;
        if (!directory.empty() && directory.front() == '/' && isInside && access(full.c_str(), R_OK) == 0) {
            allowed = full;
            break;
        }
    }
    json changed = document;
    changed["type"] = name + ":" + allowed;
    return changed;
}

/// Keeps a table for ever, as the client needs it.
void registerType(Kind kind, const std::string& name)
{
    auto* component = new mofka_component(kindOf(kind).component);
    component->type_name = (new std::string(name))->c_str();
    auto* table = new mofka_components{MOFKA_COMPONENTS_VERSION, sizeof(mofka_component), 1, component};
    translated([&] { mofka::detail::check(mofka_components_register(table)); });
}

/// The library that a class is of, as `libname.so`; empty for none.
std::string libraryOf(const std::type_info& type)
{
    Dl_info found = {};
    if (dladdr(&type, &found) == 0 || !found.dli_fname)
        return "";
    const std::string path = found.dli_fname;
    const std::string file = path.substr(path.rfind('/') + 1);
    const bool isLibrary = file.rfind("lib", 0) == 0 && file.size() > 6 && file.compare(file.size() - 3, 3, ".so") == 0;
    return isLibrary ? file : "";
}

/// The document of a component; `makes` says whether a document makes one of the same class.
template <typename Interface, typename F>
json documentOf(const Interface& component, const char* what, F&& makes)
{
    json told = component.metadata().json();
    if (!told.is_object() || told.contains("type"))
        return told;
    // Of a library that is named like what it registers.
    const std::string library = libraryOf(typeid(component));
    if (!library.empty()) {
        told["type"] = library.substr(3, library.size() - 6) + ":" + library;
        try {
            if (makes(told))
                return told;
        } catch (const std::exception&) {
            // It is named otherwise.
        }
    }
    std::cerr << "mofka: " << what << " of class " << typeid(component).name() << " tells of itself " << component.metadata().dump()
              << ", and nothing can be made of that when the topic is opened: the topic gets the default one. Let its metadata() say the \"type\" "
                 "that it is registered under, and its configuration\n";
    return json{{"type", "default"}};
}

} // namespace

json document(const diaspora::ValidatorInterface& component)
{
    return documentOf(component, "the validator", [&](const json& told) {
        const auto made = diaspora::ValidatorFactory::create(told["type"].get<std::string>(), diaspora::Metadata(told));
        return typeid(*made) == typeid(component);
    });
}

json document(const diaspora::PartitionSelectorInterface& component)
{
    return documentOf(component, "the partition selector", [&](const json& told) {
        const auto made = diaspora::PartitionSelectorFactory::create(told["type"].get<std::string>(), diaspora::Metadata(told));
        return typeid(*made) == typeid(component);
    });
}

json document(const diaspora::SerializerInterface& component)
{
    return documentOf(component, "the serializer", [&](const json& told) {
        const auto made = diaspora::SerializerFactory::create(told["type"].get<std::string>(), diaspora::Metadata(told));
        return typeid(*made) == typeid(component);
    });
}

diaspora::Validator validator(const json& document)
{
    return diaspora::Validator::FromMetadata(permitted(document));
}

diaspora::PartitionSelector partitionSelector(const json& document)
{
    return diaspora::PartitionSelector::FromMetadata(permitted(document));
}

diaspora::Serializer serializer(const json& document)
{
    return diaspora::Serializer::FromMetadata(permitted(document));
}

std::string adapt(Kind kind, const json& document)
{
    static std::mutex mutex;
    static auto* const known = new std::set<std::pair<Kind, std::string>>;
    const std::string name = typeOf(document).first;
    if (name.empty() || kindOf(kind).builtIn.count(name))
        return "";
    std::lock_guard lock(mutex);
    if (known->count({kind, name}))
        return "";
    try {
        switch (kind) {
        case Kind::Validator:
            validator(document);
            break;
        case Kind::PartitionSelector:
            partitionSelector(document);
            break;
        case Kind::Serializer:
            serializer(document);
            break;
        }
        registerType(kind, name);
    } catch (const std::exception& error) {
        return std::string(kindOf(kind).name) + " \"" + name + "\": " + error.what();
    }
    known->insert({kind, name});
    return "";
}

} // namespace mofka_diaspora::components
