// What the driver does beyond what the API's own suites look at: every GROUP-FILE. Says "done" when all of it is so.
#include <atomic>
#include <diaspora/Driver.hpp>
#include <diaspora/PosixThreadPool.hpp>
#include <diaspora/TopicHandle.hpp>
#include <iostream>
#include <mofka/MofkaDriver.hpp>
#include <mutex>
#include <set>
#include <string>
#include <thread>

using diaspora::DataDescriptor;
using diaspora::DataView;
using diaspora::Metadata;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            std::cerr << __FILE__ << ":" << __LINE__ << ": " #condition " does not hold\n";                            \
            std::exit(1);                                                                                              \
        }                                                                                                              \
    } while (0)

namespace {

/// It throws an exception of this type, with `part` in its text.
template <typename E, typename F>
void throws(const std::string& part, F&& function)
{
    try {
        function();
    } catch (const E& error) {
        if (std::string(error.what()).find(part) == std::string::npos) {
            std::cerr << "\"" << part << "\" is not in: " << error.what() << "\n";
            std::exit(1);
        }
        return;
    }
    std::cerr << "nothing was thrown with \"" << part << "\"\n";
    std::exit(1);
}

std::atomic<int> validators{0};

/// Takes events with an energy below a bound, and only without data.
class Bounded final : public diaspora::ValidatorInterface {
  public:
    explicit Bounded(int bound) : m_bound(bound)
    {
        ++validators;
    }
    ~Bounded() override
    {
        --validators;
    }
    void validate(const Metadata& metadata, const DataView& data) const override
    {
        if (metadata.json().at("energy").get<int>() >= m_bound)
            throw diaspora::InvalidMetadata("too much energy");
        if (data.size() > 4)
            throw diaspora::InvalidMetadata("too much data");
    }
    Metadata metadata() const override
    {
        return Metadata(nlohmann::json{{"type", "bounded"}, {"bound", m_bound}});
    }
    static std::shared_ptr<diaspora::ValidatorInterface> create(const Metadata& metadata)
    {
        return std::make_shared<Bounded>(metadata.json().at("bound").get<int>());
    }

  private:
    int m_bound;
};

/// The partition after the one that was asked for; the last one, when none was.
class After final : public diaspora::PartitionSelectorInterface {
  public:
    void setPartitions(const std::vector<diaspora::PartitionInfo>& partitions) override
    {
        CHECK(!partitions.empty() && partitions[0].json().contains("uuid"));
        m_count = partitions.size();
    }
    std::size_t selectPartitionFor(const Metadata&, std::optional<std::size_t> requested) override
    {
        return requested ? (*requested + 1) % m_count : m_count - 1;
    }
    Metadata metadata() const override
    {
        return Metadata(nlohmann::json{{"type", "after"}});
    }
    static std::shared_ptr<diaspora::PartitionSelectorInterface> create(const Metadata&)
    {
        return std::make_shared<After>();
    }

  private:
    std::size_t m_count = 0;
};

/// The energy in one byte.
class OneByte final : public diaspora::SerializerInterface {
  public:
    void serialize(diaspora::Archive& archive, const Metadata& metadata) const override
    {
        const auto energy = metadata.json().at("energy").get<std::uint8_t>();
        archive.write(&energy, 1);
    }
    void deserialize(diaspora::Archive& archive, Metadata& metadata) const override
    {
        std::uint8_t energy = 0;
        archive.read(&energy, 1);
        metadata = Metadata(nlohmann::json{{"energy", energy}});
        throws<diaspora::Exception>("1 bytes, and 0 are left", [&] { archive.read(&energy, 1); });
    }
    Metadata metadata() const override
    {
        return Metadata(nlohmann::json{{"type", "one_byte"}});
    }
    static std::shared_ptr<diaspora::SerializerInterface> create(const Metadata&)
    {
        return std::make_shared<OneByte>();
    }
};

DIASPORA_REGISTER_VALIDATOR(test, bounded, Bounded);
DIASPORA_REGISTER_PARTITION_SELECTOR(test, after, After);
DIASPORA_REGISTER_SERIALIZER(test, one_byte, OneByte);

Metadata oneOf(const char* type = "memory", int partitions = 1)
{
    return Metadata(nlohmann::json{{"num_partitions", partitions}, {"config", {{"type", type}}}});
}

Metadata energy(int value)
{
    return Metadata(nlohmann::json{{"energy", value}});
}

/// The next event, which has to come.
diaspora::Event next(diaspora::Consumer& consumer)
{
    return consumer.pull().wait(-1).value();
}

std::string textOf(const DataView& view)
{
    std::string text(view.size(), '-');
    std::size_t offset = 0;
    for (const auto& segment : view.segments()) {
        std::memcpy(text.data() + offset, segment.ptr, segment.size);
        offset += segment.size;
    }
    return text;
}

const std::string alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

void administration(diaspora::Driver& driver, const char* groupFile)
{
    const Metadata wrong[] = {Metadata("{}"), Metadata("[]"), Metadata(R"({"group_file": 7})")};
    throws<diaspora::Exception>("\"group_file\" key not found", [&] { diaspora::Driver::New("mofka", wrong[0]); });
    throws<diaspora::Exception>("\"group_file\" key not found", [&] { diaspora::Driver::New("mofka", wrong[1]); });
    throws<diaspora::Exception>("path of a group file", [&] { diaspora::Driver::New("mofka", wrong[2]); });
    throws<diaspora::Exception>("nowhere.json", [&] { diaspora::Driver::New("mofka", Metadata(R"({"group_file": "nowhere.json"})")); });
    const nlohmann::json withMargo{{"group_file", groupFile}, {"margo", {{"use_progress_thread", true}}}};
    CHECK(diaspora::Driver::New("mofka", Metadata(withMargo)));

    const std::pair<const char*, const char*> refused[] = {
        {R"({"num_partition": 1})", "unknown key \"num_partition\""},
        {R"({"num_partitions": 0})", "integer from 1"},
        {R"({"num_partitions": "1"})", "integer from 1"},
        {R"({"num_partitions": 1, "config": {"type": "tape"}})", "no partition type \"tape\""},
        {R"({"num_partitions": 1, "config": {"partition": 3}})", "has to be an object"},
        {R"({"num_partitions": 1, "config": {"uuid": "x"}})", "need not be adopted"},
        {R"({"num_partitions": 1, "dependencies": {"pool": 3}})", "a list of texts"},
        {R"({"num_partitions": 1, "durability": "carved"})", "\"synced\""},
    };
    for (auto [options, part] : refused)
        throws<diaspora::Exception>(part, [&, options = options] { driver.createTopic("refused", Metadata(options)); });
    CHECK(!driver.topicExists("refused"));
    throws<diaspora::Exception>("refused", [&] { driver.openTopic("refused"); });

    // Without a number there are none, and they are added.
    driver.createTopic("grows");
    auto empty = driver.openTopic("grows");
    CHECK(empty.partitions().empty() && driver.listTopics().at("grows").json()["num_partitions"] == 0);
    throws<diaspora::Exception>("PartitionSelector has no target to select from", [&] { empty.producer().push(Metadata()); });
    auto& ours = driver.as<mofka::MofkaDriver>();
    CHECK(ours.numServers() == 1);
    ours.addMemoryPartition("grows", 0);
    ours.addDefaultPartition("grows", 0);
    ours.addCustomPartition("grows", 0, "legacy");
    throws<diaspora::Exception>("no server of rank 1", [&] { ours.addMemoryPartition("grows", 1); });
    auto topic = driver.openTopic("grows");
    CHECK(topic.partitions().size() == 3 && topic.name() == "grows");
    const auto& info = topic.partitions()[2].json();
    CHECK(info["uuid"].is_string() && info["address"].is_string() && info["provider_id"].is_number() && info["index"] == 2);

    diaspora::PosixThreadPool foreign(diaspora::ThreadCount(1));
    auto pool = driver.makeThreadPool(diaspora::ThreadCount(2));
    CHECK(pool.threadCount().count == 2 && driver.makeThreadPool(diaspora::ThreadCount(0)).threadCount().count == 0);
    throws<diaspora::Exception>("Invalid partition index", [&] { topic.consumer("c", std::vector<std::size_t>{3}); });
    throws<diaspora::Exception>("unknown key", [&] { topic.producer(Metadata(R"({"acks": 1})")); });
    auto early = topic.producer("early", pool, Metadata(R"({"ack_early": true})"), diaspora::BatchSize(3), diaspora::Ordering::Loose);
    CHECK(early.name() == "early" && early.batchSize().value == 3 && early.maxNumBatch().value == 2);
    CHECK(early.ordering() == diaspora::Ordering::Loose && early.topic().name() == "grows" && early.threadPool());
    CHECK(early.push(energy(1), DataView(), 1).wait(-1).value() == 0);
}

void components(diaspora::Driver& driver)
{
    driver.createTopic("programmed", oneOf("memory", 3), diaspora::Validator(Bounded::create(Metadata(R"({"bound": 100})"))),
                       diaspora::PartitionSelector(std::make_shared<After>()), diaspora::Serializer(std::make_shared<OneByte>()));
    {
        auto topic = driver.openTopic("programmed");
        CHECK(topic.validator().metadata().json()["bound"] == 100 && topic.serializer().metadata().json()["type"] == "one_byte");
        CHECK(topic.selector().selectPartitionFor(Metadata()) == 2);
        auto producer = topic.producer();
        throws<diaspora::InvalidMetadata>("too much energy", [&] { producer.push(energy(100)); });
        std::string five = "12345";
        throws<diaspora::InvalidMetadata>("too much data", [&] { producer.push(energy(1), DataView(five.data(), 5)); });
        CHECK(producer.push(energy(42)).wait(-1) == 0u && producer.push(energy(43), DataView(), 0).wait(-1) == 0u);
        producer.flush().wait(-1);
        auto consumer = topic.consumer("c", std::vector<std::size_t>{1, 2});
        std::set<int> energies{next(consumer).metadata().json()["energy"].get<int>(), next(consumer).metadata().json()["energy"].get<int>()};
        CHECK((energies == std::set<int>{42, 43}));
        // What it is in memory is not what is stored.
        auto last = topic.consumer("d", std::vector<std::size_t>{1});
        auto event = next(last);
        CHECK(event.partition().json()["index"] == 1 && event.metadata().json() == energy(43).json());
    }
    throws<std::exception>("bound", [&] { diaspora::Validator::FromMetadata(Metadata(R"({"type": "bounded"})")); });
    CHECK(validators == 0);

    // What nobody knows is stored, and cannot be opened.
    struct Strange final : public diaspora::ValidatorInterface {
        void validate(const Metadata&, const DataView&) const override
        {
        }
        Metadata metadata() const override
        {
            return Metadata(R"({"type": "strange:libstrange.so"})");
        }
    };
    driver.createTopic("strange", oneOf(), diaspora::Validator(std::make_shared<Strange>()));
    throws<diaspora::Exception>("libstrange.so", [&] { driver.openTopic("strange"); });
    // What may be loaded is said by the environment; types of the program are known without.
    CHECK(setenv("MOFKA_PLUGIN_PATH", "", 1) == 0);
    throws<diaspora::Exception>("not one that MOFKA_PLUGIN_PATH lets this process load", [&] { driver.openTopic("strange"); });
    CHECK(driver.openTopic("programmed").validator().metadata().json()["bound"] == 100);
    CHECK(unsetenv("MOFKA_PLUGIN_PATH") == 0);

    // One whose description of itself is no use gets what the original gives.
    struct Silent final : public diaspora::SerializerInterface {
        void serialize(diaspora::Archive&, const Metadata&) const override
        {
        }
        void deserialize(diaspora::Archive&, Metadata&) const override
        {
        }
        Metadata metadata() const override
        {
            return Metadata();
        }
    };
    driver.createTopic("silent", oneOf(), {}, {}, diaspora::Serializer(std::make_shared<Silent>()));
    CHECK(driver.openTopic("silent").serializer().metadata().json()["type"] == "default");

    // Those that the client has itself.
    auto schema = diaspora::Validator::FromMetadata(Metadata(R"({"type": "schema", "schema": {"required": ["energy"]}})"));
    driver.createTopic("by-schema", oneOf(), schema);
    auto producer = driver.openTopic("by-schema").producer();
    CHECK(producer.push(energy(1)).wait(-1) == 0u);
    throws<diaspora::InvalidMetadata>("Metadata does not comply to required schema", [&] { producer.push(Metadata()); });
    throws<diaspora::InvalidMetadata>("JSON", [&] { producer.push(Metadata("\xff", false)); });
}

void selections(diaspora::Driver& driver)
{
    driver.createTopic("selected", oneOf("default"));
    auto topic = driver.openTopic("selected");
    auto producer = topic.producer();
    std::string first = alphabet, second = alphabet;
    // In two segments.
    producer.push(energy(0), DataView({{first.data(), 20}, {first.data() + 20, 32}}));
    producer.push(energy(1), DataView(second.data(), second.size()));
    producer.push(energy(2)).wait(-1);

    // Nested, relative to each other: a rectangle of 2 x 3 in an image of 13 x 4.
    diaspora::DataSelector rectangle = [](const Metadata& metadata, const DataDescriptor& whole) {
        if (metadata.json()["energy"] == 1)
            throw diaspora::Exception("not this one");
        return whole.size() == 0 ? whole : whole.makeSubView(13, 39).makeStridedView(0, 3, 2, 11);
    };
    {
        // Without an allocator, the data is where it came.
        auto consumer = topic.consumer("in-place", rectangle);
        auto event = next(consumer);
        CHECK(textOf(event.data()) == "noABNO" && !event.data().context());
        auto failing = consumer.pull();
        throws<diaspora::Exception>("not this one", [&] { failing.wait(-1); });
        throws<diaspora::Exception>("not this one", [&] { failing.wait(0); });
        auto none = next(consumer);
        CHECK(none.id() == 2 && none.data().segments().empty());
        auto kept = event.data();
        event = diaspora::Event();
        consumer = diaspora::Consumer();
        CHECK(textOf(kept) == "noABNO");
    }
    std::atomic<int> allocated{0}, freed{0};
    diaspora::DataAllocator twoSegments = [&](const Metadata& metadata, const DataDescriptor& selected) {
        ++allocated;
        auto* bytes = new std::string(selected.size() + (metadata.json()["energy"] == 2 ? 1 : 0), '-');
        const std::size_t half = bytes->size() / 2;
        return DataView({{bytes->data(), half}, {bytes->data() + half, bytes->size() - half}}, bytes, [&](void* context) {
            delete static_cast<std::string*>(context);
            ++freed;
        });
    };
    {
        auto consumer = topic.consumer("allocated", twoSegments, diaspora::DataSelector([](const Metadata&, const DataDescriptor& whole) {
                                           return whole.size() == 0 ? whole : whole.makeUnstructuredView({{3, 6}, {15, 4}, {27, 8}});
                                       }));
        auto event = next(consumer);
        CHECK(textOf(event.data()) == "defghipqrsBCDEFGHI" && event.data().segments().size() == 2 && event.data().context());
        event = next(consumer);
        CHECK(textOf(event.data()) == "defghipqrsBCDEFGHI" && freed == 1);
    }
    CHECK(allocated == 2 && freed == 2);
    {
        auto consumer = topic.consumer("wrong size", twoSegments);
        for (std::uint64_t id : {0, 1})
            CHECK(next(consumer).id() == id);
        throws<diaspora::Exception>("size different", [&] { next(consumer); });
    }
    CHECK(allocated == 5 && freed == 5);
    {
        auto consumer = topic.consumer("other", diaspora::DataSelector([](const Metadata&, const DataDescriptor&) {
                                           return DataDescriptor("elsewhere", 10);
                                       }));
        throws<diaspora::Exception>("other data", [&] { next(consumer); });
    }

    // What a selector refers to may go with its consumer.
    for (int round = 0; round < 20; ++round) {
        auto isThere = std::make_unique<std::atomic<bool>>(true);
        auto consumer = topic.consumer("gone", diaspora::DataSelector([there = isThere.get()](const Metadata&, const DataDescriptor& whole) {
                                           std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                           CHECK(*there);
                                           return whole;
                                       }));
        next(consumer);
        consumer = diaspora::Consumer();
        *isThere = false;
    }

    // Long data is sent from where it is, and let go of.
    std::atomic<bool> isFree{false};
    auto* large = new std::string(1 << 20, 'x');
    producer.push(energy(3), DataView(large->data(), large->size(), large, [&](void* context) {
                      delete static_cast<std::string*>(context);
                      isFree = true;
                  }))
        .wait(-1);
    producer.flush().wait(-1);
    while (!isFree)
        std::this_thread::yield();
}

void resuming(diaspora::Driver& driver)
{
    driver.createTopic("resumed", oneOf("default"));
    auto topic = driver.openTopic("resumed");
    {
        auto producer = topic.producer("p", diaspora::BatchSize(7));
        for (int i = 0; i < 20; ++i)
            producer.push(energy(i));
        // The end of a producer sends what is left.
    }
    diaspora::Future<std::optional<diaspora::Event>> pending;
    {
        auto consumer = topic.consumer("c");
        for (std::uint64_t id = 0; id < 10; ++id) {
            auto pull = consumer.pull();
            auto event = pull.wait(-1).value();
            CHECK(event.id() == id && pull.completed() && pull.wait(0)->id() == id);
            if (id == 4)
                event.acknowledge();
        }
        // A pull that nobody waited for leaves its event to the next one.
        pending = consumer.pull();
        consumer.pull();
        pending = {};
        CHECK(next(consumer).id() == 10);
    }
    auto consumer = topic.consumer("c");
    CHECK(next(consumer).id() == 5);
    for (std::uint64_t id = 6; id < 20; ++id)
        next(consumer);
    auto late = consumer.pull();
    CHECK(!late.completed() && !late.wait(0) && !late.wait(20));
    throws<diaspora::Exception>("invalid future", [&] { pending.wait(0); });

    driver.as<mofka::MofkaDriver>().markAsComplete("resumed");
    auto last = late.wait(-1).value();
    CHECK(last.id() == diaspora::NoMoreEvents && next(consumer).id() == diaspora::NoMoreEvents);
    throws<diaspora::Exception>("Cannot acknowledge \"NoMoreEvents\"", [&] { last.acknowledge(); });
    auto again = topic.consumer("d");
    std::uint64_t count = 0;
    for (auto& event : again)
        CHECK(event.id() == count++);
    CHECK(count == 20);
    throws<diaspora::Exception>("complete", [&] { topic.producer().push(energy(1)).wait(-1); });
}

void processing(diaspora::Driver& driver)
{
    driver.createTopic("processed", oneOf());
    auto topic = driver.openTopic("processed");
    auto producer = topic.producer();
    for (int i = 0; i < 100; ++i)
        producer.push(energy(i));
    producer.flush().wait(-1);
    for (std::size_t threads : {0, 1, 3}) {
        auto pool = driver.makeThreadPool(diaspora::ThreadCount(threads));
        std::mutex mutex;
        std::set<std::uint64_t> seen;
        auto collect = [&](const std::optional<diaspora::Event>& event) {
            std::lock_guard lock(mutex);
            seen.insert(event.value().id());
        };
        topic.consumer("all" + std::to_string(threads)).process(collect, -1, diaspora::NumEvents(100), pool);
        CHECK(seen.size() == 100);
        auto stops = [&](const std::optional<diaspora::Event>& event) {
            if (event.value().id() == 10)
                throw diaspora::StopEventProcessor();
        };
        topic.consumer("stops" + std::to_string(threads)).process(stops, -1, diaspora::NumEvents::Infinity(), pool);
        auto fails = [&](const std::optional<diaspora::Event>&) { throw std::runtime_error("this processor fails"); };
        throws<std::runtime_error>("this processor fails", [&] {
            topic.consumer("fails" + std::to_string(threads)).process(fails, -1, diaspora::NumEvents::Infinity(), pool);
        });
    }
    // Nothing, after a timeout, is handed over, too.
    int nothing = 0;
    auto empty = topic.consumer("empty");
    empty.process(
        [&](const std::optional<diaspora::Event>& event) {
            if (!event && ++nothing == 2)
                throw diaspora::StopEventProcessor();
        },
        5);
    CHECK(nothing == 2);
}

} // namespace

int main(int argc, char** argv)
{
    CHECK(argc == 2);
    auto driver = diaspora::Driver::New("mofka", Metadata(nlohmann::json{{"group_file", argv[1]}}));
    administration(driver, argv[1]);
    components(driver);
    selections(driver);
    resuming(driver);
    processing(driver);
    std::cout << "done" << std::endl;
    return 0;
}
