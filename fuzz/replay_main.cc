// SPDX-License-Identifier: Apache-2.0
// Stands in for libFuzzer where it is not built in: runs a fuzz target over the corpus folders named on the command
// line. Each input is run as it is, cut short at every length, and with random bytes changed (fixed seed, so a failure
// repeats). Passes when the target returns every time; a crash, an assertion or a sanitizer ends the process.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kCutsPerInput = 256;
constexpr int kMutationsPerInput = 256;

// From a heap block of exactly this size, so that AddressSanitizer sees a read past the end.
void run(const std::uint8_t* data, std::size_t size) {
  const Input exact(data, data + size);
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

void run_variants(const Input& input, std::mt19937_64& random) {
  run(input.data(), input.size());
  const std::size_t step = std::max<std::size_t>(1, input.size() / kCutsPerInput);
  for (std::size_t length = 0; length < input.size(); length += step) run(input.data(), length);
  if (input.empty()) return;
  for (int i = 0; i < kMutationsPerInput; ++i) {
    Input mutated = input;
    for (auto changes = 1 + random() % 4; changes > 0; --changes) {
      mutated[random() % mutated.size()] = static_cast<std::uint8_t>(random());
    }
    run(mutated.data(), mutated.size());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(argv[i], error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->is_regular_file(error)) files.push_back(entry->path());
    }
    if (error) {
      std::fprintf(stderr, "%s: %s\n", argv[i], error.message().c_str());
      return 1;
    }
  }
  if (files.empty()) {
    std::fprintf(stderr, "no inputs: name a folder that holds a corpus\n");
    return 1;
  }
  std::ranges::sort(files);
  std::mt19937_64 random(1);
  for (const auto& file : files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
      std::fprintf(stderr, "%s cannot be read\n", file.c_str());
      return 1;
    }
    const Input input((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    std::fprintf(stderr, "%s\n", file.filename().c_str());  // the last name printed is the one that crashed
    run_variants(input, random);
  }
  std::printf("%zu inputs replayed\n", files.size());
  return 0;
}
