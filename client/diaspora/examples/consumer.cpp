// Pulls events with all of their data until none comes for a second: consumer [GROUP-FILE]
#include <diaspora/Driver.hpp>
#include <diaspora/TopicHandle.hpp>
#include <iostream>
#include <string>

int main(int argc, char** argv)
try {
    diaspora::Metadata options;
    options.json()["group_file"] = argc > 1 ? argv[1] : "mofka.json";
    auto driver = diaspora::Driver::New("mofka", options);

    diaspora::DataSelector selector = [](const diaspora::Metadata&, const diaspora::DataDescriptor& all) { return all; };
    diaspora::DataAllocator allocator = [](const diaspora::Metadata&, const diaspora::DataDescriptor& selected) {
        auto* bytes = new std::string(selected.size(), '\0');
        return diaspora::DataView(bytes->data(), bytes->size(), bytes, [](void* context) { delete static_cast<std::string*>(context); });
    };
    auto consumer = driver.openTopic("collisions").consumer("analysis", selector, allocator);
    while (auto event = consumer.pull().wait(1000)) {
        if (event->id() == diaspora::NoMoreEvents)
            break;
        const auto& segment = event->data().segments().at(0);
        std::cout << "event " << event->id() << ": " << event->metadata().dump() << " "
                  << std::string(static_cast<const char*>(segment.ptr), segment.size) << "\n";
        event->acknowledge();
    }
    return 0;
} catch (const diaspora::Exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
