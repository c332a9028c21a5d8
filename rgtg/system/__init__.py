"""What files and processes need of the machine, without models, records or the screen."""
