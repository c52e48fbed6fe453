"""What tests share: fakes, servers that break on demand, proxies, clocks, and stages that run the programs."""
