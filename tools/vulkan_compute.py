"""Runs one compute shader with Vulkan: what tools/spirv_runs.py starts, so that a driver that ends does not end it.

    python tools/vulkan_compute.py JOB.json

The job has the shader's file, how many workgroups there are, and its buffers: files that are read, and written again
where the shader may write. Needs the package vulkan and takes the first device, Mesa's on a machine without a GPU.
"""
import json
import pathlib
import sys

import vulkan as vk


def device_of(instance):
    """The physical device, and the device with all that it can do."""
    chosen = vk.vkEnumeratePhysicalDevices(instance)[0]
    features = None
    for version in (vk.VkPhysicalDeviceVulkan13Features, vk.VkPhysicalDeviceVulkan12Features,
                    vk.VkPhysicalDeviceVulkan11Features, vk.VkPhysicalDeviceFeatures2):
        features = version(pNext=features)
    vk.vkGetPhysicalDeviceFeatures2(chosen, features)
    queue = vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, queueCount=1, pQueuePriorities=[1.0])
    return chosen, vk.vkCreateDevice(chosen, vk.VkDeviceCreateInfo(pNext=features, queueCreateInfoCount=1,
                                                                   pQueueCreateInfos=[queue]), None)


def memory_of(chosen, device, buffer):
    """Memory that the host sees too, bound to the buffer."""
    needs = vk.vkGetBufferMemoryRequirements(device, buffer)
    types = vk.vkGetPhysicalDeviceMemoryProperties(chosen)
    seen = vk.VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | vk.VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
    index = next(i for i in range(types.memoryTypeCount)
                 if needs.memoryTypeBits >> i & 1 and types.memoryTypes[i].propertyFlags & seen == seen)
    memory = vk.vkAllocateMemory(device, vk.VkMemoryAllocateInfo(allocationSize=needs.size, memoryTypeIndex=index), None)
    vk.vkBindBufferMemory(device, buffer, memory, 0)
    return memory


KINDS = {"uniform": vk.VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, "storage": vk.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER}


class Run:
    def __init__(self, job):
        self.job = job
        info = vk.VkApplicationInfo(pApplicationName="mlx-kd", apiVersion=vk.VK_MAKE_VERSION(1, 3, 0))
        self.instance = vk.vkCreateInstance(vk.VkInstanceCreateInfo(pApplicationInfo=info), None)
        self.chosen, self.device = device_of(self.instance)
        self.bound = [one for one in job["buffers"] if one["kind"] in KINDS]
        self.memory = {}

    def layouts(self):
        found = []
        for index in range(1 + max((one["set"] for one in self.bound), default=-1)):
            bindings = [vk.VkDescriptorSetLayoutBinding(binding=one["binding"], descriptorType=KINDS[one["kind"]],
                                                        descriptorCount=1, stageFlags=vk.VK_SHADER_STAGE_COMPUTE_BIT)
                        for one in self.bound if one["set"] == index]
            found.append(vk.vkCreateDescriptorSetLayout(self.device, vk.VkDescriptorSetLayoutCreateInfo(
                bindingCount=len(bindings), pBindings=bindings), None))
        return found

    def pipeline(self, layouts, pushed):
        ranges = [vk.VkPushConstantRange(stageFlags=vk.VK_SHADER_STAGE_COMPUTE_BIT, offset=0, size=len(pushed))] if pushed else []
        self.layout = vk.vkCreatePipelineLayout(self.device, vk.VkPipelineLayoutCreateInfo(
            setLayoutCount=len(layouts), pSetLayouts=layouts, pushConstantRangeCount=len(ranges),
            pPushConstantRanges=ranges), None)
        code = pathlib.Path(self.job["shader"]).read_bytes()
        module = vk.vkCreateShaderModule(self.device, vk.VkShaderModuleCreateInfo(codeSize=len(code), pCode=code), None)
        stage = vk.VkPipelineShaderStageCreateInfo(stage=vk.VK_SHADER_STAGE_COMPUTE_BIT, module=module,
                                                   pName=self.job["entry"])
        return vk.vkCreateComputePipelines(self.device, None, 1, [vk.VkComputePipelineCreateInfo(
            stage=stage, layout=self.layout)], None)[0]

    def bind(self, layouts):
        if not self.bound:
            return []
        sizes = [vk.VkDescriptorPoolSize(type=kind, descriptorCount=len(self.bound)) for kind in KINDS.values()]
        pool = vk.vkCreateDescriptorPool(self.device, vk.VkDescriptorPoolCreateInfo(
            maxSets=len(layouts), poolSizeCount=len(sizes), pPoolSizes=sizes), None)
        sets = vk.vkAllocateDescriptorSets(self.device, vk.VkDescriptorSetAllocateInfo(
            descriptorPool=pool, descriptorSetCount=len(layouts), pSetLayouts=layouts))
        for one in self.bound:
            data = pathlib.Path(one["file"]).read_bytes()
            use = vk.VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT | vk.VK_BUFFER_USAGE_STORAGE_BUFFER_BIT
            buffer = vk.vkCreateBuffer(self.device, vk.VkBufferCreateInfo(size=len(data), usage=use), None)
            memory = memory_of(self.chosen, self.device, buffer)
            vk.vkMapMemory(self.device, memory, 0, len(data), 0)[:] = data
            vk.vkUnmapMemory(self.device, memory)
            self.memory[one["file"]] = (memory, len(data))
            info = vk.VkDescriptorBufferInfo(buffer=buffer, offset=0, range=len(data))
            vk.vkUpdateDescriptorSets(self.device, 1, [vk.VkWriteDescriptorSet(
                dstSet=sets[one["set"]], dstBinding=one["binding"], descriptorCount=1, descriptorType=KINDS[one["kind"]],
                pBufferInfo=[info])], 0, None)
        return sets

    def run(self):
        pushed = b"".join(pathlib.Path(one["file"]).read_bytes() for one in self.job["buffers"] if one["kind"] == "push")
        layouts = self.layouts()
        pipeline = self.pipeline(layouts, pushed)
        sets = self.bind(layouts)
        pool = vk.vkCreateCommandPool(self.device, vk.VkCommandPoolCreateInfo(queueFamilyIndex=0), None)
        commands = vk.vkAllocateCommandBuffers(self.device, vk.VkCommandBufferAllocateInfo(
            commandPool=pool, level=vk.VK_COMMAND_BUFFER_LEVEL_PRIMARY, commandBufferCount=1))[0]
        vk.vkBeginCommandBuffer(commands, vk.VkCommandBufferBeginInfo())
        vk.vkCmdBindPipeline(commands, vk.VK_PIPELINE_BIND_POINT_COMPUTE, pipeline)
        if sets:
            vk.vkCmdBindDescriptorSets(commands, vk.VK_PIPELINE_BIND_POINT_COMPUTE, self.layout, 0, len(sets), sets, 0, None)
        if pushed:
            vk.vkCmdPushConstants(commands, self.layout, vk.VK_SHADER_STAGE_COMPUTE_BIT, 0, len(pushed),
                                  vk.ffi.from_buffer(pushed))
        vk.vkCmdDispatch(commands, *self.job["groups"])
        vk.vkEndCommandBuffer(commands)
        queue = vk.vkGetDeviceQueue(self.device, 0, 0)
        vk.vkQueueSubmit(queue, 1, [vk.VkSubmitInfo(commandBufferCount=1, pCommandBuffers=[commands])], None)
        vk.vkQueueWaitIdle(queue)
        for file, (memory, size) in self.memory.items():
            pathlib.Path(file).write_bytes(bytes(vk.vkMapMemory(self.device, memory, 0, size, 0)[:]))
        return vk.vkGetPhysicalDeviceProperties(self.chosen).deviceName


if __name__ == "__main__":
    print(Run(json.loads(pathlib.Path(sys.argv[1]).read_text())).run())
