# brew install --build-from-source ./docs/install/sigsif.rb
# OWNER is who publishes the repository.
class Sigsif < Formula
  desc "Signs and verifies container images in the SIF and OCI-SIF formats"
  homepage "https://github.com/OWNER/sigsif"
  url "https://github.com/OWNER/sigsif/archive/refs/tags/v0.1.0.tar.gz"
  # The sum of the archive, from the release page.
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"
  head "https://github.com/OWNER/sigsif.git", branch: "main"

  depends_on "rust" => :build
  depends_on :linux

  def install
    system "cargo", "install", *std_cargo_args
    generate_completions_from_executable(bin/"sigsif", "completion")
    man1.mkpath
    system bin/"sigsif", "man", man1
  end

  test do
    system bin/"sigsif", "sif", "new", "image.sif"
    assert_match "sigsif", shell_output("#{bin}/sigsif --version")
  end
end
