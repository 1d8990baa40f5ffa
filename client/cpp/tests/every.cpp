// Everything of mofka.hpp at least once.
#include <mofka.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

static const std::string alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);               \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

// It throws an error with this code, in whose text `part` stands.
template <typename F>
static void throws(mofka_status code, const std::string& part, F&& function)
{
    try {
        function();
    } catch (const mofka::Exception& error) {
        const std::runtime_error& base = error;
        if (error.code() == code && std::string(base.what()).find(part) != std::string::npos)
            return;
        std::fprintf(stderr, "%d %s: %s\n", error.code(), error.reason().c_str(), error.what());
    }
    std::fprintf(stderr, "no error %d with \"%s\"\n", code, part.c_str());
    std::exit(1);
}

static bool has(const mofka::Metadata& json, const std::string& part)
{
    return json.string().find(part) != std::string::npos;
}

static void views_of_memory()
{
    char first[] = "abc", second[] = "defgh";
    int freed = 0;
    {
        mofka::DataView view({{first, 3}, {nullptr, 0}, {second, 5}}, &freed,
                             [](void* context) { ++*static_cast<int*>(context); });
        mofka::DataView copy = view;
        CHECK(view.size() == 8 && view.segments().size() == 3 && view.context() == &freed && view.isOwned());
        char into[9] = "--------";
        CHECK(view.read(into, 4, 2) == 4 && std::string(into) == "cdef----");
        CHECK(copy.read(into, 8, 6) == 2 && copy.read(into, 8, 99) == 0);
        CHECK(view.write("XYZ", 3, 2) == 3 && view.toString() == "abXYZfgh" && freed == 0);
    }
    CHECK(freed == 1);
    CHECK(mofka::DataView::Own(std::string("own")).toString() == "own" && mofka::DataView().size() == 0);
    CHECK(mofka::DataView::Own(std::vector<int>{1, 2, 3}).size() == 12 && !mofka::DataView("text").isOwned());
}

static void descriptors()
{
    mofka::DataDescriptor none, whole("place", 52);
    CHECK(none.size() == 0 && none.flatten().empty() && none.makeSubView(0, 1).size() == 0);
    CHECK(whole.size() == 52 && whole.location() == "place");
    auto nested = whole.makeSubView(10, 100).makeStridedView(3, 3, 4, 2);
    CHECK(nested.size() == 12 && nested.baseSize() == 52);
    auto ranges = nested.flatten();
    CHECK(ranges.size() == 3 && ranges[1].offset == 19 && ranges[1].bytes == 4);
    CHECK(nested.makeUnstructuredView({{0, 2}, {3, 1}}).size() == 3);
    auto read = mofka::DataDescriptor::Deserialize(nested.serialize());
    CHECK(read.size() == 12 && read.flatten()[2].offset == 25);
    CHECK(mofka::DataDescriptor::Deserialize(none.serialize()).size() == 0);
    throws(MOFKA_ERROR_INVALID_VIEW, "out of bounds", [&] { whole.makeStridedView(0, 100, 4, 2); });
    throws(MOFKA_ERROR_INVALID_VIEW, "out of order", [&] { whole.makeUnstructuredView({{3, 1}, {0, 2}}); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "early", [] { mofka::DataDescriptor::Deserialize("x"); });
}

static void administration(const mofka::Driver& driver)
{
    CHECK(driver && driver.numServers() == 1 && !mofka::version().empty());
    mofka::TopicOptions options;
    options.durability = mofka::Durability::Written;
    options.partitions = 0;
    options.producersExpected = 1;
    options.validator = R"({"type": "schema", "schema": {"type": "object", "required": ["x"]}})";
    options.retention = R"({"bytes_max": 1000000000})";
    auto topic = driver.createTopic("administered", options);
    CHECK(topic.name() == "administered" && topic.partitions().empty());
    topic.checkComponents();
    mofka::PartitionOptions partition;
    partition.shard = 0;
    CHECK(has(driver.addPartition("administered", partition), "\"shard\":0"));
    driver.addDefaultPartition("administered", 0);
    CHECK(has(driver.addMemoryPartition("administered", 0), "\"memory\""));
    topic.refresh();
    CHECK(topic.partitions().size() == 3 && has(topic.partitions()[2], "\"index\":2"));
    CHECK(has(topic.partitionStatus(0), "\"open\"") && has(topic.info(), "\"written\""));
    topic.setRetention(R"({"age_max_ms": 5000000})");
    topic.sync();
    CHECK(has(driver.listTopics(), "administered") && has(driver.nodeStatus(0), "shards"));

    auto producer = topic.producer("one");
    try {
        producer.push("{\"y\": 1}");
        CHECK(false);
    } catch (const mofka::InvalidMetadata& error) {
        CHECK(error.code() == MOFKA_ERROR_INVALID_METADATA && error.reason() == "rejected" && !error.mayBeStored());
    }
    CHECK(producer.done() == std::make_pair(std::uint32_t(1), std::uint32_t(1)));
    topic.refresh();
    CHECK(has(topic.info(), "\"complete\":true"));
    driver.deleteTopic("administered");
    CHECK(!driver.topicExists("administered"));
    throws(MOFKA_ERROR_UNKNOWN_TOPIC, "administered", [&] { driver.openTopic("administered"); });
    throws(MOFKA_ERROR_TOPIC_EXISTS, "every", [&] { driver.createTopic("every"); });
}

// Event 0 to 3: copied, owned, without data, a stream; 4 to 9 in the order of their numbers.
static void produce(const mofka::TopicHandle& topic)
{
    auto pool = mofka::ThreadPool(2);
    mofka::ProducerOptions chosen;
    chosen.deliveryTimeoutMs = 200000;
    auto producer = topic.producer(chosen, "every", mofka::BatchSize(100), mofka::MaxNumBatches(4),
                                   mofka::Ordering::Strict, pool, mofka::Durability::Synced);
    CHECK(producer && producer.name() == "every" && producer.batchSize().value == 100);
    CHECK(producer.maxNumBatches().value == 4 && producer.ordering() == mofka::Ordering::Strict);
    CHECK(producer.threadPool().threadCount() == 2);
    auto first = producer.push("{\"n\": 0}", alphabet);
    CHECK(!first.completed() && first);
    std::atomic<int> freed{0};
    std::string kept = alphabet;
    mofka::Future<mofka::EventID> second;
    {
        mofka::DataView owned({{kept.data(), 20}, {&kept[20], 32}}, nullptr, [&](void*) { ++freed; });
        second = producer.push("{\"n\": 1}", owned, 0);
    }
    auto third = producer.push("{\"n\": 2}");
    auto flushed = producer.flush();
    while (!flushed.wait(1))
        ;
    CHECK(flushed.completed() && *first.wait(0) == 0 && second.wait() == 1 && third.wait() == 2 && third.wait() == 2);
    CHECK(freed == 1);
    auto writer = producer.pushStream("{\"n\": 3}");
    for (int i = 0; i < 1000; ++i)
        writer.write(alphabet);
    CHECK(writer.size() == 52000 && writer.finish() == 3);
    throws(MOFKA_ERROR_CLOSED, "finished", [&] { writer.finish(); });
    for (int n = 4; n < 10; ++n)
        producer.push("{\"n\": " + std::to_string(n) + "}", alphabet);
    throws(MOFKA_ERROR_INVALID_METADATA, "JSON", [&] { producer.push("{"); });
    CHECK(producer.stats().events == 10);
    auto report = producer.close();
    CHECK(report.pushed == 10 && report.acknowledged == 10 && report.failed == 0 && report.mayBeStored == 0);
    CHECK(report.failedByReason == "{}");
    throws(MOFKA_ERROR_CLOSED, "closed", [&] { producer.push("{}"); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "producer is NULL", [] { mofka::Producer().push("{}"); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "invalid future", [] { mofka::Future<mofka::EventID>().wait(); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "invalid future", [] { mofka::Future<mofka::Event>().completed(); });
}

static std::string metadata_of(int n)
{
    return "{\"n\": " + std::to_string(n) + "}";
}

static void consume(const mofka::Driver& driver, const mofka::TopicHandle& topic)
{
    // Exceptions of the application's functions are errors of their events.
    auto selector = [](const mofka::Metadata& metadata, const mofka::DataDescriptor& whole) {
        if (metadata == metadata_of(1))
            throw std::runtime_error("not event 1");
        if (metadata == metadata_of(2))
            throw 2;
        return metadata == metadata_of(3) ? mofka::DataDescriptor() : whole.makeSubView(13, 26);
    };
    std::atomic<int> allocated{0}, freed{0};
    auto allocator = [&](const mofka::Metadata& metadata, const mofka::DataDescriptor& selected) {
        if (metadata == metadata_of(4))
            throw std::runtime_error("no memory for event 4");
        ++allocated;
        auto* bytes = new std::string(selected.size() + (metadata == metadata_of(5)), '-');
        return mofka::DataView(bytes->data(), bytes->size(), bytes, [&](void* context) {
            delete static_cast<std::string*>(context);
            ++freed;
        });
    };
    {
        auto consumer = topic.consumer("chooser", selector, allocator, mofka::BatchSize(5), mofka::MaxNumBatches(3),
                                       driver.makeThreadPool(mofka::ThreadCount(1)), std::vector<std::size_t>{0});
        CHECK(consumer && consumer.name() == "chooser" && consumer.partitions() == std::vector<std::size_t>{0});
        CHECK(consumer.dataSelector() && consumer.dataAllocator() && consumer.batchSize().value == 5);
        CHECK(consumer.maxNumBatches().value == 3 && consumer.threadPool().threadCount() == 1);
        auto future = consumer.pull();
        auto event = future.wait();
        CHECK(event.id() == 0 && event.partition() == 0 && event.timestampUs() > 0 && future.completed());
        CHECK(event.metadata() == metadata_of(0) && event.metadataView() == metadata_of(0));
        CHECK(event.data().toString() == "nopqrstuvwxyzABCDEFGHIJKLM" && event.dataSegmentCount() == 1);
        CHECK(event.dataSegment(0).text() == event.data().toString() && event.dataSegment(0)[1] == 'o');
        CHECK(event.dataSegment(1).empty() && event.storedSize() == 52 && event.descriptor().size() == 26);
        throws(MOFKA_ERROR_CALLBACK, "not event 1", [&] { consumer.pull().wait(); });
        throws(MOFKA_ERROR_CALLBACK, "no std::exception", [&] { consumer.pull().wait(); });
        auto streamed = consumer.pull().wait();
        CHECK(streamed.id() == 3 && streamed.data().size() == 0 && streamed.data().segments().empty());
        auto reader = streamed.openData();
        std::string piece(100, '-');
        reader.seek(51950);
        CHECK(reader.size() == 52000 && reader.read(piece.data(), 100) == 50 && piece[0] == 'c');
        auto last = streamed.openData(streamed.whole().makeSubView(51950, 50).makeSubView(10, 20));
        CHECK(streamed.whole().size() == 52000 && last.size() == 20);
        CHECK(last.read(piece.data(), 100) == 20 && piece[0] == 'm');
        throws(MOFKA_ERROR_INVALID_VIEW, "event 3", [&] { streamed.openData(event.whole()); });
        throws(MOFKA_ERROR_CALLBACK, "no memory for event 4", [&] { consumer.pull().wait(); });
        throws(MOFKA_ERROR_CALLBACK, "size different", [&] { consumer.pull().wait(); });
        event.acknowledge();
        streamed.acknowledgeStart().wait();
        CHECK(has(driver.listConsumers("every"), "chooser") && consumer.stats().events >= 6);
        consumer.seek(0, mofka::Start::Id(9));
        auto data = consumer.pull().wait().data();
        consumer = mofka::Consumer();
        CHECK(data.toString() == "nopqrstuvwxyzABCDEFGHIJKLM");
    }
    CHECK(allocated >= 5);

    // Ready-made ones.
    auto whole = topic.consumer("whole", mofka::FullDataSelector(), mofka::ByteArrayAllocator());
    CHECK(whole.pull().wait().data().toString() == alphabet);
    whole.unsubscribe();
    throws(MOFKA_ERROR_CLOSED, "closed", [&] { whole.pull().wait(); });
    auto viewer = topic.consumer(
        "viewer", mofka::DataViews().sub(13, 26).strided(0, 3, 4, 2).unstructured({{0, 2}, {4, 1}}),
        mofka::Filter(R"({"n": [0, 7]})"));
    CHECK(viewer.pull().wait().data().toString() == "not");
    CHECK(viewer.pull().wait().id() == 7);
    CHECK(!viewer.pull().wait(0));
    throws(MOFKA_ERROR_NO_PARTITION, "17", [&] { topic.consumer("x", std::vector<std::size_t>{17}); });

    // It goes on after what was acknowledged.
    mofka::EventID expected = 4;
    auto chooser = topic.consumer("chooser");
    for (auto position = chooser.begin(60000); position != chooser.end(); ++position) {
        CHECK(position->id() == expected);
        if (++expected == 10)
            break;
    }
    CHECK(topic.seek("chooser", 0, mofka::Start::First()) == 0);
}

static void process(const mofka::TopicHandle& topic)
{
    std::atomic<int> seen{0};
    auto report = topic.consumer("processor").process(
        [&](const std::optional<mofka::Event>& event) {
            CHECK(event);
            ++seen;
            if (event->id() == 1)
                throw std::runtime_error("event 1 is odd");
            if (event->id() == 3)
                throw mofka::StopEventProcessor();
        },
        -1);
    CHECK(report.events == 4 && report.failed == 1 && report.end == MOFKA_PROCESS_STOPPED && seen == 4);
    CHECK(report.firstFailure.find("odd") != std::string::npos);
    auto some = topic.consumer("processor", mofka::Start::First())
                    .process([](const std::optional<mofka::Event>&) {}, 60000, mofka::NumEvents(2), mofka::ThreadPool(2));
    CHECK(some.handedOver == 2 && some.end == MOFKA_PROCESS_COUNTED);
}

static void end(const mofka::TopicHandle& topic)
{
    topic.markPartitionAsComplete(0);
    topic.markAsComplete();
    int count = 0;
    auto consumer = topic.consumer("ends");
    for (const auto& event : consumer) {
        CHECK(event.id() == static_cast<mofka::EventID>(count));
        ++count;
    }
    CHECK(count == 10);
    auto last = consumer.pull().wait();
    CHECK(last.id() == mofka::NoMoreEvents && !last && last.data().size() == 0 && last.metadata() == "{}");
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "NoMoreEvents", [&] { last.acknowledge(); });
    auto report = topic.consumer("pipe") | [](const std::optional<mofka::Event>&) {};
    CHECK(report.events == 10 && report.end == MOFKA_PROCESS_NO_MORE_EVENTS);
    auto refused = topic.producer().push("{}");
    throws(MOFKA_ERROR_TOPIC_COMPLETE, "complete", [&] { refused.wait(); });
    throws(MOFKA_ERROR_TOPIC_COMPLETE, "complete", [&] { refused.wait(5); });
}

static void pools(const mofka::Driver& driver)
{
    std::atomic<int> ran{0};
    {
        auto pool = mofka::ThreadPool(3);
        for (int i = 0; i < 1000; ++i)
            pool.pushWork([&] { ++ran; }, static_cast<std::uint64_t>(i));
        pool.pushWork([] { throw std::runtime_error("a task"); });
    }
    CHECK(ran == 1000);
    CHECK(driver.defaultThreadPool().threadCount() > 0 && mofka::ThreadPool(0).size() == 0);
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "pool is NULL", [] { mofka::ThreadPool().pushWork([] {}); });
}

static void refer(const mofka::Driver& driver, const mofka::TopicHandle& topic)
{
    auto derived = driver.createTopic("derived");
    auto original = topic.consumer("refers").pull().wait();
    CHECK(!original.isReference() && original.dataRef().size() == 52);
    CHECK(derived.producer().push("{}", original.dataRef()).wait() == 0);
    std::vector<std::size_t> told;
    auto consumer = derived.consumer("derived", mofka::FullDataSelector(),
                                     [&](mofka::Assignment change, const std::vector<std::size_t>& partitions) {
                                         if (change == mofka::Assignment::Assigned)
                                             told = partitions;
                                     });
    auto event = consumer.pull().wait();
    CHECK(event.isReference() && event.data().toString() == alphabet && told == std::vector<std::size_t>{0});
    throws(MOFKA_ERROR_REFUSED, "derived", [&] { driver.deleteTopic("every"); });
    driver.deleteTopic("derived", true);
}

// A worker with a producer of its own in each thread, moved there.
static void threads(const mofka::Driver& driver)
{
    auto topic = driver.createTopic("threads");
    std::vector<std::thread> workers;
    for (int i = 0; i < 8; ++i) {
        workers.emplace_back([producer = topic.producer()] {
            for (int n = 0; n < 200; ++n)
                producer.push("{}", mofka::DataView::Own(alphabet));
            CHECK(producer.close().acknowledged == 200);
        });
    }
    for (auto& worker : workers)
        worker.join();
    topic.markAsComplete();
    int count = 0;
    auto consumer = topic.consumer("all", mofka::FullDataSelector());
    for (const auto& event : consumer) {
        CHECK(event.dataSegment(0).text() == alphabet);
        ++count;
    }
    CHECK(count == 1600);
}

int main(int argc, char** argv)
{
    const char* group_file = argc > 1 ? argv[1] : "mofka.json";
    throws(MOFKA_ERROR_GROUP_FILE, "missing.json", [] { mofka::Driver("missing.json"); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "files", [] { mofka::Driver::New("files", {}); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "driver is NULL", [] { mofka::Driver().listTopics(); });
    mofka::DriverOptions options;
    options.addresses = {"carrier-pigeon://x"};
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "carrier-pigeon", [&] { mofka::Driver driver(options); });

    auto driver = mofka::Driver::New("mofka", {{"group_file", group_file}});
    auto topic = driver.createTopic("every");
    views_of_memory();
    descriptors();
    administration(driver);
    produce(topic);
    consume(driver, topic);
    refer(driver, topic);
    process(topic);
    end(topic);
    pools(driver);
    threads(driver);
    driver.shutdownNode(0);
    std::printf("done\n");
}
