// Pulls events until none comes for a second; begins after the last event that was acknowledged under its name.
//
//     c++ -std=c++17 consumer.cpp $(pkg-config --cflags --libs mofka) -o consumer && ./consumer mofka.json
#include <iostream>
#include <mofka.hpp>

int main(int argc, char** argv)
try {
    mofka::Driver driver(argc > 1 ? argv[1] : "mofka.json");
    auto consumer = driver.openTopic("collisions").consumer("analysis", mofka::FullDataSelector());
    while (auto event = consumer.pull().wait(1000)) {
        if (event->id() == mofka::NoMoreEvents)
            break;
        std::cout << "event " << event->id() << ": " << event->metadataView() << " " << event->data().toString()
                  << "\n";
        event->acknowledge();
    }
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
