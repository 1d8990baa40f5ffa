// A detector whose frames are filled where the node reads them: nothing is copied to it on the way when both run on one machine (`na+sm` or
// `unix://`), and the same program works over a network.
//
//     c++ -std=c++17 in_place.cpp $(pkg-config --cflags --libs mofka) -o in_place && ./in_place mofka.json
#include <iostream>
#include <mofka.hpp>

static constexpr std::size_t pixels = 512 * 640;

// What a camera's driver does, by DMA: it knows nothing but the place. Every fifth frame is lost.
static bool readOut(int number, std::uint16_t* frame)
{
    for (std::size_t i = 0; i < pixels; ++i)
        frame[i] = static_cast<std::uint16_t>(static_cast<std::size_t>(number) + i % 640);
    return number % 5 != 4;
}

int main(int argc, char** argv)
try {
    mofka::Driver driver(argc > 1 ? argv[1] : "mofka.json");
    if (!driver.topicExists("frames"))
        driver.createTopic("frames");

    auto producer = driver.openTopic("frames").producer();
    int shared = 0;
    for (int number = 0; number < 10; ++number) {
        auto room = producer.claim(R"({"frame": )" + std::to_string(number) + "}", pixels * sizeof(std::uint16_t));
        // Not committed, it is as if it had never been.
        if (!readOut(number, static_cast<std::uint16_t*>(room.data())))
            continue;
        shared += room.isShared();
        room.commit();
    }

    auto report = producer.close();
    std::cout << report.acknowledged << " frames acknowledged, " << report.failed << " failed, " << shared
              << " filled in shared memory\n";
    return report.failed > 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
