// Creates a topic if there is none, and pushes ten events to it: producer [GROUP-FILE]
#include <diaspora/Driver.hpp>
#include <diaspora/TopicHandle.hpp>
#include <iostream>
#include <string>

int main(int argc, char** argv)
try {
    diaspora::Metadata options;
    options.json()["group_file"] = argc > 1 ? argv[1] : "mofka.json";
    auto driver = diaspora::Driver::New("mofka", options);
    if (!driver.topicExists("collisions"))
        driver.createTopic("collisions", diaspora::Metadata(R"({"num_partitions": 1, "config": {"type": "default"}})"));

    auto producer = driver.openTopic("collisions").producer("example", diaspora::BatchSize::Adaptive(), diaspora::Ordering::Strict);
    diaspora::EventID last = 0;
    for (int i = 0; i < 10; ++i) {
        diaspora::Metadata metadata;
        metadata.json()["energy"] = 10 * i;
        std::string data = "what collision " + std::to_string(i) + " left behind";
        auto pushed = producer.push(metadata, diaspora::DataView(data.data(), data.size()));
        // The data has to stay as it is until then, or until a flush.
        last = pushed.wait(-1).value();
    }
    producer.flush().wait(-1);
    std::cout << "the last event is stored, as event " << last << "\n";
    return 0;
} catch (const diaspora::Exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
