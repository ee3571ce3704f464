"""OpenVINO: optimum-intel exports, nncf compresses the weights, and OpenVINO runs them."""
