// A topic's validator, partition selector and serializer: those of the API, for the client.
//
// Types that the client has built in work in the client. Others, which a program or a library registered with the API, are
// registered with the client, too, by a table of functions that call them; and what neither knows may be in a library of the client's.
#ifndef MOFKA_DIASPORA_COMPONENTS_HPP
#define MOFKA_DIASPORA_COMPONENTS_HPP

#include <diaspora/PartitionSelector.hpp>
#include <diaspora/Serializer.hpp>
#include <diaspora/Validator.hpp>
#include <string>

namespace mofka_diaspora::components {

enum class Kind { Validator, PartitionSelector, Serializer };

/// What is stored of a component of the program's with a topic: its document, which says its type also when the component itself forgets it
/// (as in the API's own documentation). When nobody could make it again of what it tells, the topic gets the default one, as in the original,
/// and standard error says so.
nlohmann::json document(const diaspora::ValidatorInterface& component);
nlohmann::json document(const diaspora::PartitionSelectorInterface& component);
nlohmann::json document(const diaspora::SerializerInterface& component);

/// Makes the type that a document names known to the client, if it is one of the API's. Says why not, otherwise; empty: all is well.
std::string adapt(Kind kind, const nlohmann::json& document);

/// The API's object of a document. Throws when the API does not know its type.
diaspora::Validator validator(const nlohmann::json& document);
diaspora::PartitionSelector partitionSelector(const nlohmann::json& document);
diaspora::Serializer serializer(const nlohmann::json& document);

} // namespace mofka_diaspora::components

#endif
