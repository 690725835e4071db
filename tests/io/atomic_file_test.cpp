#include <klens/io/atomic_file.hpp>

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <csignal>
#include <cstddef>
#include <vector>

#include "support/run_program.hpp"

using support::content_of;
using support::temporary_folder;

namespace {

std::size_t files_in(const temporary_folder& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{folder.path()}, {}));
}

std::string complaint(const std::filesystem::path& path) {
  try {
    klens::write_file(path, "x");
  } catch (const klens::file_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("atomic_file: there whole or not at all") {
  const temporary_folder folder;
  klens::write_file(folder / "a", "older");
  {
    klens::atomic_file file{folder / "a"};
    file.write("new");
    file.write(std::as_bytes(std::span("er", 2)));
    CHECK(content_of(folder / "a") == "older");
    CHECK(files_in(folder) == 2);
    file.commit();
    CHECK(content_of(folder / "a") == "newer");
  }
  CHECK(content_of(folder / "a") == "newer");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("atomic_file: without commit nothing changes and nothing stays") {
  const temporary_folder folder;
  klens::write_file(folder / "a", "older");
  klens::atomic_file{folder / "a"}.write("half");
  klens::atomic_file{folder / "b"}.write("half");
  CHECK(content_of(folder / "a") == "older");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("atomic_file: two writers of one name do not meet") {
  const temporary_folder folder;
  klens::atomic_file first{folder / "a"}, second{folder / "a"};
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  CHECK(content_of(folder / "a") == "first");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("atomic_file: permissions and links are kept") {
  const temporary_folder folder;
  klens::write_file(folder / "a", "older");
  std::filesystem::permissions(folder / "a", std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::create_symlink("a", folder / "link");
  klens::write_file(folder / "link", "newer");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(content_of(folder / "a") == "newer");
  CHECK(std::filesystem::status(folder / "a").permissions() ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
}

TEST_CASE("atomic_file: failures say what to do") {
  const temporary_folder folder;
  CHECK(complaint(folder.path()).find("is a folder; name a file in it") != std::string::npos);
  const std::string missing = complaint(folder / "none" / "a");
  CHECK(missing.starts_with((folder / "none" / "a").string() + ": cannot be created"));
  CHECK(missing.find("create its folder first") != std::string::npos);
  klens::write_file(folder / "file", "");
  CHECK(complaint(folder / "file" / "a").find("create its folder first") != std::string::npos);
  CHECK(files_in(folder) == 1);
}

TEST_CASE("atomic_file: a full disk leaves nothing behind") {
  CHECK(complaint("/dev/full").find("free some space") != std::string::npos);  // a device is written directly

  const temporary_folder folder;
  klens::write_file(folder / "a", "older");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{1000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  CHECK_THROWS_AS(klens::write_file(folder / "a", std::string(5000, 'x')), klens::file_error);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(content_of(folder / "a") == "older");
  CHECK(files_in(folder) == 1);
}
