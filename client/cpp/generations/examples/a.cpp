// Of generation A, Mofka up to 0.6: pushes events and pulls them again, with the data of every second one. a [GROUP-FILE]
#include <iostream>
#include <mofka/MofkaDriver.hpp>
#include <mofka/TopicHandle.hpp>
#include <string>
#include <vector>

int main(int argc, char** argv)
try {
    mofka::MofkaDriver driver(argc > 1 ? argv[1] : "mofka.json", true);
    driver.createTopic("generation-a");
    driver.addMemoryPartition("generation-a", 0);
    mofka::TopicHandle topic = driver.openTopic("generation-a");

    mofka::ThreadPool threadPool(mofka::ThreadCount(1));
    mofka::Producer producer = topic.producer("app1", mofka::BatchSize(16), threadPool, mofka::Ordering::Strict);
    std::vector<std::string> data(10);
    for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = "data of event " + std::to_string(i);
        auto future = producer.push(mofka::Metadata("{\"n\": " + std::to_string(i) + "}"), mofka::Data(data[i].data(), data[i].size()));
        if (i == 9)
            std::cout << "pushed up to event " << future.wait() << "\n";
    }
    producer.flush();
    topic.markAsComplete();

    mofka::DataSelector selector = [](const mofka::Metadata& metadata, const mofka::DataDescriptor& descriptor) {
        return (metadata.string().at(6) - '0') % 2 == 0 ? descriptor : mofka::DataDescriptor::Null();
    };
    mofka::DataBroker broker = [](const mofka::Metadata&, const mofka::DataDescriptor& descriptor) {
        return descriptor.size() == 0 ? mofka::Data() : mofka::Data(new char[descriptor.size()], descriptor.size());
    };
    mofka::Consumer consumer = topic.consumer("app2", threadPool, mofka::BatchSize::Adaptive(), selector, broker);
    for (;;) {
        mofka::Event event = consumer.pull().wait();
        if (event.id() == mofka::NoMoreEvents)
            break;
        const mofka::Data received = event.data();
        std::cout << "event " << event.id() << ": " << event.metadata().string() << " " << received.toString() << "\n";
        for (const auto& segment : received.segments())
            delete[] static_cast<char*>(segment.ptr);
        event.acknowledge();
    }
    return 0;
} catch (const mofka::Exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
