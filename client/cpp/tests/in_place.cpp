// mofka::InPlace. The second argument says whether what is claimed is shared with the node.
#include <mofka.hpp>

#include <cstdio>
#include <cstdlib>
#include <numeric>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);               \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

// Of the arena: half of it can be claimed at a time.
static constexpr std::size_t ringBytes = std::size_t(8) << 20;
static constexpr int events = 40;

static_assert(!std::is_copy_constructible<mofka::InPlace>::value && !std::is_copy_assignable<mofka::InPlace>::value,
              "what was claimed has one owner");
static_assert(std::is_nothrow_move_constructible<mofka::InPlace>::value &&
                  std::is_nothrow_move_assignable<mofka::InPlace>::value,
              "and can be kept in containers");

template <typename F>
static void throws(mofka_status code, const std::string& part, F&& function)
{
    try {
        function();
    } catch (const mofka::Exception& error) {
        if (error.code() == code && std::string(error.what()).find(part) != std::string::npos)
            return;
        std::fprintf(stderr, "%d %s: %s\n", error.code(), error.reason().c_str(), error.what());
    }
    std::fprintf(stderr, "no error %d with \"%s\"\n", code, part.c_str());
    std::exit(1);
}

static std::vector<std::uint32_t> values_of(int n)
{
    std::vector<std::uint32_t> values(static_cast<std::size_t>(n) * 1777);
    std::iota(values.begin(), values.end(), static_cast<std::uint32_t>(n) << 20);
    return values;
}

static void arrives_byte_for_byte(const mofka::TopicHandle& topic, bool isLocal)
{
    auto producer = topic.producer();
    for (int n = 0; n < events; ++n) {
        auto values = values_of(n);
        std::size_t bytes = values.size() * sizeof values[0];
        auto room = producer.claim("{\"n\": " + std::to_string(n) + "}", bytes + 100, 0);
        CHECK(room && room.isShared() == isLocal && room.size() == bytes + 100);
        room.shorten(bytes);
        CHECK(room.size() == bytes);
        if (n % 2 == 0) {
            CHECK(reinterpret_cast<std::uintptr_t>(room.data()) % 4096 == 0);
            std::copy(values.begin(), values.end(), static_cast<std::uint32_t*>(room.data()));
        } else {
            room.write(values.data(), bytes / 2);
            room.write(reinterpret_cast<const char*>(values.data()) + bytes / 2, bytes - bytes / 2, bytes / 2);
        }
        auto pushed = room.commit();
        CHECK(!room);
        if (n % 3 == 0)
            CHECK(pushed.wait() == static_cast<mofka::EventID>(n));
    }
    CHECK(producer.close().acknowledged == events);
    auto consumer = topic.consumer("check", mofka::FullDataSelector());
    for (int n = 0; n < events; ++n) {
        auto event = consumer.pull().wait();
        auto values = values_of(n);
        std::string expected(reinterpret_cast<const char*>(values.data()), values.size() * sizeof values[0]);
        CHECK(event.metadata().string() == "{\"n\": " + std::to_string(n) + "}" && event.data().toString() == expected);
    }
}

static void what_is_not_committed_gives_its_room_back(const mofka::TopicHandle& topic, bool isLocal)
{
    auto producer = topic.producer();
    mofka::InPlace kept;
    for (std::size_t n = 0; n < 300; ++n) {
        auto room = producer.claim("{}", ringBytes / 4 - n);
        CHECK(room.isShared() == isLocal);
        // What was there is given up.
        kept = std::move(room);
        CHECK(kept && !room && room.size() == 0 && room.data() == nullptr);
    }
    kept = mofka::InPlace();
    CHECK(producer.claim("{}", ringBytes / 2).isShared() == isLocal);
    CHECK(producer.stats().events == 0);
}

static void what_is_wrong_is_thrown(const mofka::TopicHandle& topic)
{
    auto producer = topic.producer();
    throws(MOFKA_ERROR_INVALID_METADATA, "JSON", [&] { producer.claim("{", 1); });
    throws(MOFKA_ERROR_TOO_LARGE, "larger than the", [&] { producer.claim("{}", std::size_t(1) << 40); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "producer is NULL", [] { mofka::Producer().claim("{}", 1); });
    auto room = producer.claim("{}", 10);
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "not within", [&] { room.write("12345", 5, 6); });
    throws(MOFKA_ERROR_INVALID_ARGUMENT, "not within", [&] { room.shorten(11); });
    room.write("0123456789");
    room.commit().wait();
    throws(MOFKA_ERROR_CLOSED, "was committed", [&] { room.commit(); });
    throws(MOFKA_ERROR_CLOSED, "was committed", [&] { room.write("1"); });
    throws(MOFKA_ERROR_CLOSED, "was committed", [&] { room.shorten(1); });
    CHECK(room.data() == nullptr && room.size() == 0 && !room.isShared());
    throws(MOFKA_ERROR_CLOSED, "never claimed", [] { mofka::InPlace().commit(); });
    auto late = producer.claim("{}", 10);
    CHECK(producer.close().pushed == 1);
    throws(MOFKA_ERROR_CLOSED, "closed", [&] { late.commit(); });
    CHECK(!late);
}

// The room keeps its producer until then.
static void it_outlives_the_producers_other_handles(const mofka::TopicHandle& topic)
{
    auto room = topic.producer().claim("{}", 3);
    room.write("abc");
    auto elsewhere = std::move(room);
    auto id = elsewhere.commit().wait();
    auto event = topic.consumer("last", mofka::FullDataSelector(), mofka::Start::Id(id)).pull().wait();
    CHECK(event.id() == id && event.data().toString() == "abc");
}

int main(int argc, char** argv)
{
    CHECK(argc == 3);
    bool isLocal = std::string(argv[2]) == "shared";
    mofka::DriverOptions options;
    options.groupFile = argv[1];
    options.ringBytes = ringBytes;
    mofka::Driver driver(options);
    auto topic = driver.createTopic("in_place");
    arrives_byte_for_byte(topic, isLocal);
    what_is_not_committed_gives_its_room_back(topic, isLocal);
    what_is_wrong_is_thrown(topic);
    it_outlives_the_producers_other_handles(topic);
    std::printf("done\n");
}
