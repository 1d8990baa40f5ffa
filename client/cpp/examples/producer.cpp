// Creates a topic if there is none, and pushes ten events to it.
//
//     c++ -std=c++17 producer.cpp $(pkg-config --cflags --libs mofka) -o producer && ./producer mofka.json
#include <iostream>
#include <mofka.hpp>

int main(int argc, char** argv)
try {
    mofka::Driver driver(argc > 1 ? argv[1] : "mofka.json");
    if (!driver.topicExists("collisions"))
        driver.createTopic("collisions");

    auto topic = driver.openTopic("collisions");
    auto producer = topic.producer("example", mofka::BatchSize::Adaptive(), mofka::Ordering::Strict);
    mofka::Future<mofka::EventID> last;
    for (int i = 0; i < 10; ++i) {
        std::string metadata = R"({"energy": )" + std::to_string(10 * i) + "}";
        std::string data = "what collision " + std::to_string(i) + " left behind";
        last = producer.push(metadata, data);
    }
    std::cout << "the last event is stored, as event " << last.wait() << "\n";

    // Nothing was asked of the other events yet.
    auto report = producer.close();
    std::cout << report.pushed << " events pushed, " << report.acknowledged << " acknowledged, " << report.failed
              << " failed\n";
    return report.failed > 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
