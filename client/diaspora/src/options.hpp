// The documents of options that programs give, as options of the client.
#ifndef MOFKA_DIASPORA_OPTIONS_HPP
#define MOFKA_DIASPORA_OPTIONS_HPP

#include <diaspora/Metadata.hpp>
#include <mofka.hpp>

namespace mofka_diaspora::options {

/// `group_file`; what else a driver may be told is about the original's network library, and means nothing here. Throws without it.
mofka::DriverOptions driver(const diaspora::Metadata& given);

/// `num_partitions` (absent: none), `config` with `type` (memory when absent), `partition` and `uuid`, `dependencies`, and of our own
/// `durability`, `retention` and `producers_expected`. Throws for what makes no sense.
mofka::TopicOptions topic(const diaspora::Metadata& given);

/// `ack_early`, and of our own `durability`.
void producer(const diaspora::Metadata& given, mofka::ProducerOptions& options);

/// Of our own, `filter`: an event pattern.
void consumer(const diaspora::Metadata& given, mofka::ConsumerOptions& options);

/// The kind of partitions that a name of the original's means.
mofka::PartitionKind partitionKind(std::string_view type);

/// A batch size of the API; its largest is the adaptive one, and so is 0.
mofka::BatchSize batchSize(std::size_t events);

/// A number of batches of the API, which knows no bound.
mofka::MaxNumBatches maxNumBatches(std::size_t batches);

} // namespace mofka_diaspora::options

#endif
