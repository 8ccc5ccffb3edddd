"""Looking at a machine or at a whole cluster, and saying what is wrong with it before anything is started."""
