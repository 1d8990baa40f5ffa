// Of generation B, the walk-through of Mofka 0.7: pushes to a topic that was made by the command line, and pulls from it. b [GROUP-FILE]
//
//     mofkactl topic create my_topic && mofkactl partition add my_topic --type memory --rank 0
#include <diaspora/Driver.hpp>
#include <diaspora/TopicHandle.hpp>
#include <iostream>
#include <string>

int main(int argc, char** argv)
try {
    diaspora::Metadata options;
    options.json()["group_file"] = argc > 1 ? argv[1] : "mofka.json";
    options.json()["margo"] = nlohmann::json{{"use_progress_thread", true}};
    diaspora::Driver driver = diaspora::Driver::New("mofka", options);
    diaspora::TopicHandle topic = driver.openTopic("my_topic");
    {
        diaspora::Producer producer = topic.producer("producer", driver.defaultThreadPool(), diaspora::BatchSize::Adaptive());
        for (int i = 0; i < 100; ++i) {
            diaspora::Metadata metadata(R"({"x": )" + std::to_string(i) + R"(, "name": "bob"})");
            std::string data = "data " + std::to_string(i);
            auto future = producer.push(metadata, diaspora::DataView(data.data(), data.size()));
            if ((i + 1) % 10 == 0)
                std::cout << "pushed event " << future.wait() << "\n";
        }
        producer.flush();
    }

    diaspora::DataSelector selector = [](const diaspora::Metadata& metadata, const diaspora::DataDescriptor& descriptor) {
        return metadata.json()["x"].get<int>() >= 98 ? descriptor : diaspora::DataDescriptor();
    };
    diaspora::DataAllocator allocator = [](const diaspora::Metadata&, const diaspora::DataDescriptor& descriptor) {
        return descriptor.size() == 0 ? diaspora::DataView() : diaspora::DataView(new char[descriptor.size()], descriptor.size());
    };
    diaspora::Consumer consumer = topic.consumer("consumer", selector, allocator);
    for (int i = 0; i < 100; ++i) {
        diaspora::Event event = consumer.pull().wait();
        const diaspora::DataView& data = event.data();
        if (data.size() > 0)
            std::cout << "event " << event.id() << ": " << event.metadata().string() << " " << data.toString() << "\n";
        for (const auto& segment : data.segments())
            delete[] static_cast<char*>(segment.ptr);
        if ((i + 1) % 10 == 0)
            event.acknowledge();
    }
    return 0;
} catch (const diaspora::Exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
