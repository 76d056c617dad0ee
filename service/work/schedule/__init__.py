"""What is to be done when: settled studies, priorities, earlier studies."""
