"""What the families share. `family`: the base class of a generator. `networks`: loading, compiling and decoding. `scheduler`: a
model's noise schedule. `diffusion`: the sampling loop. `convolution`: faster convolutional blocks."""
