"""Speed and memory beside nnU-Net: preparing, augmenting, training steps, predicting."""
